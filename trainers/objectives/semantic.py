"""RepCodec's objective: features are made again from one codebook's codes, and latents and codes move to each other.

The data's column `latents` holds the features, as an embedder made them (w2v-BERT, normalised). Amphion releases no
training loop; the weights of the codebook's losses are those of its quantizer (open-mmlab/Amphion@d3de90f), the
reconstruction's is the mean absolute error. Shapes: B rows, T frames, D channels of the features, c of the latents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checkpoints import Record
from models.codecs.factorized import quantization_errors
from models.identity import TokenIdentity, check_frames, source_frame
from models.layers.masks import length_mask, pad_rows
from models.semantic.repcodec import RepCodec, RepCodecConfig
from trainers.data import Batch, Collator
from trainers.objectives import DataInfo, Loss, Objective, mean_metric
from trainers.objectives.network import NetworkObjective
from trainers.objectives.semantic_tokens import codes_identity, column_identity
from trainers.plan import Item, Needs, Position
from trainers.store import Store

COLUMN = "latents"


@dataclass(frozen=True)
class RepCodecSettings:
    """Weights of the losses."""

    reconstruction_weight: float = 1.0
    commitment_weight: float = 0.15
    """Pulls the latents to their codes."""
    codebook_weight: float = 1.0
    """Pulls the codes to their latents."""

    def __post_init__(self) -> None:
        for field in fields(self):
            weight = getattr(self, field.name)
            if weight < 0:
                raise ValueError(f"{field.name} is {weight}; it must not be negative")


@dataclass(frozen=True)
class FeatureBatch(Batch):
    """Stored features."""

    features_BTD: Tensor
    """float32; 0 beyond a row's frames."""
    lengths_B: Tensor
    """int64, frames of the features."""


class FeatureReader:
    """Reads the stored features of rows; windows are given in frames of the codes."""

    def __init__(self, data: DataInfo) -> None:
        """ValueError if nothing says who made the column."""
        self.codes, self.features = codes_identity(data), column_identity(COLUMN, data)

    def __call__(self, rows: Store, items: Sequence[Item], position: Position) -> FeatureBatch:
        """Features of the items."""
        found = [self._read(rows, item) for item in items]
        features_BTD, mask_BT = pad_rows(found)
        frames = sum(map(len, found))
        return FeatureBatch(
            position, tuple(rows.id(item.row) for item in items), frames, features_BTD, mask_BT.sum(dim=1)
        )

    def _read(self, rows: Store, item: Item) -> Tensor:
        stored = np.frombuffer(rows.data(item.row, COLUMN), "<f2").reshape(-1, self.features.channels)
        length = int(rows.lengths[item.row])
        try:
            check_frames(length, self.codes, len(stored), self.features)
        except ValueError as error:
            raise ValueError(f"row {rows.id(item.row)}: {error}") from error
        first, last = (
            source_frame(frame, self.codes, self.features, len(stored))
            for frame in (item.start, min(item.start + item.frames, length) - 1)
        )
        return torch.from_numpy(stored[first : last + 1].astype(np.float32))


class RepCodecObjective(NetworkObjective[FeatureBatch]):
    """Stored features -> features decoded from their codes."""

    family = "repcodec"
    model_config = RepCodecConfig
    settings = RepCodecSettings
    network: RepCodec

    def __init__(self, model: RepCodecConfig, settings: RepCodecSettings, data: DataInfo) -> None:
        super().__init__(RepCodec(model), data)
        self.choices = settings

    @classmethod
    def derive(cls, settings: RepCodecSettings, data: DataInfo) -> Record:  # noqa: ARG003
        """Channels of the features."""
        return {"feature_size": column_identity(COLUMN, data).channels}

    @classmethod
    def needs(cls, settings: RepCodecSettings, data: DataInfo) -> Needs:  # noqa: ARG003
        """The column of features."""
        return Needs(columns=(COLUMN,))

    @classmethod
    def collator(cls, settings: RepCodecSettings, data: DataInfo) -> Collator[FeatureBatch]:  # noqa: ARG003
        """Features alone."""
        return FeatureReader(data)

    def networks(self) -> Sequence[nn.Module]:
        """The encoder and the decoder."""
        return [self.network.encoder, self.network.decoder]

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The maker of the features."""
        return {"features": column_identity(COLUMN, self.data)}

    def prepare_samples(self) -> None:
        """Nothing: features are not heard."""

    def loss(self, batch: FeatureBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Weighted sum of the three errors, means over channels, summed over the frames."""
        features_BTD, choices = batch.features_BTD, self.choices
        mask_BT = length_mask(batch.lengths_B, features_BTD.shape[1])
        latents_BTc, codes_BT = self.network.encode(features_BTD, mask_BT)
        decoded_BTD = self.network.reconstruct(latents_BTc, codes_BT, mask_BT)
        vectors_BTc = self.network.codebook.vectors_Vc[codes_BT]
        commitment_B, codebook_B = quantization_errors(latents_BTc.float(), vectors_BTc.float(), mask_BT)
        error_BT = (decoded_BTD.float() - features_BTD).abs().mean(-1) * mask_BT
        error, count = error_BT.sum(), mask_BT.sum()
        commitment, codebook = ((one_B * batch.lengths_B).sum() for one_B in (commitment_B, codebook_B))
        total = (
            choices.reconstruction_weight * error
            + choices.commitment_weight * commitment
            + choices.codebook_weight * codebook
        )
        metrics = {"reconstruction": mean_metric(error, count), "commitment": mean_metric(commitment, count)}
        return Loss(total, count, metrics)


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {"repcodec": RepCodecObjective}
