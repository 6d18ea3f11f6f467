"""Objectives of flow matching: the velocity of a codec's latents, given their semantic content and a voice prompt.

After ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd (arXiv 2401.13527). Latents are the sums of the vectors of
stored codes, the semantic embedding those of the first level: the codec is never run. The hierarchical flow reads
tokens of any semantic tokenizer instead, and may learn stored latents from before quantization. Differences: prompts
are drawn for each row, and conditions are dropped for some (`condition_drop_prob`).
Shapes: B rows, T frames, Q levels, V codes, Z channels of the latents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from models.checkpoints import Record
from models.codecs.interface import Latents
from models.codecs.latents import decode_latents, latents_of
from models.content import Voice
from models.flow_matching.corruption import Corruption, CorruptionConfig, DrawPer, Prompts, corrupt
from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.flow_matching.sampling import FlowOptions, generate
from models.flow_matching.stages import conditions_of
from models.identity import TokenIdentity
from models.layers.checks import check_choice, check_positive
from models.sampling.draws import GeneratorDraws, RowDraws, row_seeds
from models.sampling.flow import FlowSteps
from trainers.data import Collator
from trainers.objectives import DataInfo, Loss, Objective, Sample
from trainers.objectives.network import NetworkObjective, audible, codebooks_of, frame_mask
from trainers.objectives.semantic_tokens import (
    Semantic,
    SemanticBatch,
    SemanticTokens,
    codes_identity,
    column_identity,
)
from trainers.plan import Item, Needs, Position
from trainers.store import Store


@dataclass(frozen=True)
class FlowMatchingSettings:
    """Conditions and targets; see `models.flow_matching.corruption.CorruptionConfig`."""

    prompts: Prompts = "prefix"
    max_prompt_frames: int = 300
    min_span: float = 0.7
    condition_drop_prob: float = 0.1
    draw_per: DrawPer = "row"
    sample_steps: int = 8
    """Midpoint steps of the audio made at a validation."""

    def __post_init__(self) -> None:
        check_positive(self, ["sample_steps"])
        self.corruption()

    def corruption(self) -> CorruptionConfig:
        """The settings of `models.flow_matching.corruption.corrupt`."""
        return CorruptionConfig(
            self.prompts, self.max_prompt_frames, self.min_span, self.condition_drop_prob, self.draw_per
        )


@dataclass(frozen=True)
class HierarchicalSettings(FlowMatchingSettings):
    """The same with the semantic tokens and the latents of the flow."""

    semantic: Semantic = "semantic_codes"
    latents: Literal["codes", "latents"] = "codes"
    """The latents are sums of the vectors of the codes, or those of the column `latents`."""
    embeddings: Literal["random", "codebooks"] = "random"
    """`codebooks`: semantic embeddings start as the codec's vectors; needs `semantic: codebook_0`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "semantic", get_args(Semantic))
        check_choice(self, "latents", ("codes", "latents"))
        check_choice(self, "embeddings", ("random", "codebooks"))
        if self.embeddings == "codebooks" and self.semantic != "codebook_0":
            raise ValueError(
                f"embeddings is 'codebooks' with semantic {self.semantic!r}; it needs 'codebook_0'"
            )


@dataclass(frozen=True)
class LatentBatch(SemanticBatch):
    """Codes, semantic tokens, and stored latents where the flow learns these."""

    latents_BTZ: Tensor | None = None
    """float32; None: the sums of the codes' vectors."""


class _FlowObjective(NetworkObjective[LatentBatch]):
    """The loss and what is heard of both flows."""

    network: ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher
    codebooks_QVZ: Tensor

    def __init__(
        self,
        network: ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher,
        settings: FlowMatchingSettings,
        data: DataInfo,
    ) -> None:
        super().__init__(network, data)
        self.corruption, self.sample_steps = settings.corruption(), settings.sample_steps
        self.register_buffer("codebooks_QVZ", codebooks_of(data), persistent=False)

    @classmethod
    def collator(cls, settings: FlowMatchingSettings, data: DataInfo) -> Collator[LatentBatch]:  # noqa: ARG003
        """Codes; the first level is semantic."""
        tokens = SemanticTokens("codebook_0", data)
        return lambda rows, items, position: LatentBatch(**vars(tokens.batch(rows, items, position)))

    def latents(self, batch: LatentBatch) -> Tensor:
        """The flow's targets, (B, T, Z)."""
        if batch.latents_BTZ is not None:
            return batch.latents_BTZ
        return latents_of(batch.codes_BQT.transpose(1, 2), self.codebooks_QVZ)

    def semantic(self, batch: LatentBatch) -> Tensor:
        """The network's semantic input: the vectors of the first level (B, T, Z), or ids (B, T)."""
        if isinstance(self.network, ConditionalFlowMatcher):
            return self.codebooks_QVZ[0][batch.semantic_BT]
        return batch.semantic_BT

    def loss(self, batch: LatentBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Squared error of the velocity, its mean over channels, summed over the frames that are not given."""
        latents_BTZ, semantic = self.latents(batch), self.semantic(batch)
        drawn = self._corrupted(batch, latents_BTZ, semantic, generator)
        velocity_BTZ = self.network(
            drawn.state_BTZ, drawn.times_B, semantic, drawn.prompt_BTZ, frame_mask(batch), drawn.keep_B
        )
        error_BT = (velocity_BTZ.float() - drawn.velocity_BTZ).square().mean(-1)
        return Loss((error_BT * drawn.hidden_BT).sum(), drawn.hidden_BT.sum())

    def _corrupted(
        self, batch: LatentBatch, latents_BTZ: Tensor, semantic: Tensor, generator: torch.Generator
    ) -> Corruption:
        path, draws = self.network.config.path, GeneratorDraws(generator, latents_BTZ.device)
        return corrupt(latents_BTZ, semantic, batch.lengths_B, path, self.corruption, draws)

    def samples(self, batch: LatentBatch, generator: torch.Generator) -> list[Sample]:
        """The rows made again from their semantic content and their own first third, and the recordings."""
        latents_BTZ = self.latents(batch)
        tokens, voices = [], []
        for row, frames in enumerate(batch.lengths_B.tolist()):
            prompt = frames // 3
            semantic_T = batch.semantic_BT[row]
            voices.append(Voice(semantic_T[:prompt], latents_BTZ[row, :prompt]))
            tokens.append(semantic_T[prompt:frames])
        given = conditions_of(self.network, self.codebooks_QVZ[0], tokens, voices)
        options = FlowOptions(FlowSteps(self.sample_steps))
        draws = RowDraws(row_seeds(generator, len(tokens)), latents_BTZ.device)
        made = generate(self.network, given, options, draws)
        generated_BTZ = latents_BTZ.clone()
        for row, (target_T, voice) in enumerate(zip(tokens, voices, strict=True)):
            start, frames = len(voice.content_S), len(target_T)
            generated_BTZ[row, start : start + frames] = made.latents_BTZ[row, :frames]
        return [*self._heard(batch, "generated", generated_BTZ), *self._heard(batch, "recorded", latents_BTZ)]

    def _heard(self, batch: LatentBatch, what: str, latents_BTZ: Tensor) -> Sequence[Sample]:
        return audible(batch.ids, what, decode_latents(self.codec, Latents(latents_BTZ, batch.lengths_B)))


class FlowMatchingObjective(_FlowObjective):
    """Vectors of the first level -> the sum of all levels' vectors."""

    family = "flow_matching"
    model_config = FlowMatchingConfig
    settings = FlowMatchingSettings

    def __init__(self, model: FlowMatchingConfig, settings: FlowMatchingSettings, data: DataInfo) -> None:
        super().__init__(ConditionalFlowMatcher(model), settings, data)

    @classmethod
    def derive(cls, settings: FlowMatchingSettings, data: DataInfo) -> Record:  # noqa: ARG003
        """Channels of the codec's vectors."""
        return {"latent_size": codebooks_of(data).shape[-1]}


class HierarchicalObjective(_FlowObjective):
    """Semantic tokens -> the sum of all levels' vectors, or stored latents."""

    family = "flow_matching_hierarchical"
    model_config = HierarchicalFlowMatchingConfig
    settings = HierarchicalSettings
    network: HierarchicalConditionalFlowMatcher

    def __init__(
        self, model: HierarchicalFlowMatchingConfig, settings: HierarchicalSettings, data: DataInfo
    ) -> None:
        super().__init__(HierarchicalConditionalFlowMatcher(model), settings, data)
        self.choices = settings
        self._warm = False

    @classmethod
    def derive(cls, settings: HierarchicalSettings, data: DataInfo) -> Record:
        """Number of semantic tokens, channels and kind of the latents."""
        stored = settings.latents == "latents"
        return {
            "n_semantic_tokens": SemanticTokens(settings.semantic, data).identity.codebook_size,
            "latent_size": _stored(data).channels if stored else codebooks_of(data).shape[-1],
            "latents": "continuous" if stored else "quantized",
        }

    @classmethod
    def needs(cls, settings: HierarchicalSettings, data: DataInfo) -> Needs:
        """The columns of semantic tokens and latents."""
        semantic = SemanticTokens(settings.semantic, data).needs
        stored = ("latents",) if settings.latents == "latents" else ()
        return replace(semantic, columns=(*semantic.columns, *stored))

    @classmethod
    def collator(cls, settings: FlowMatchingSettings, data: DataInfo) -> Collator[LatentBatch]:
        """Codes, semantic tokens and stored latents."""
        assert isinstance(settings, HierarchicalSettings)
        tokens = SemanticTokens(settings.semantic, data)
        channels = _stored(data).channels if settings.latents == "latents" else 0

        def collate(rows: Store, items: Sequence[Item], position: Position) -> LatentBatch:
            batch = LatentBatch(**vars(tokens.batch(rows, items, position)))
            if not channels:
                return batch
            latents_BTZ = torch.zeros(len(items), batch.codes_BQT.shape[2], channels)
            for row_TZ, item, frames in zip(latents_BTZ, items, batch.lengths_B.tolist(), strict=True):
                row_TZ[:frames] = _read_latents(rows, item, channels, frames)
            return replace(batch, latents_BTZ=latents_BTZ)

        return collate

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The codec of the latents, and the semantic tokenizer."""
        codes = codes_identity(self.data)
        stored = self.choices.latents == "latents"
        return {
            "codec": _stored(self.data) if stored else codes,
            "semantic": SemanticTokens(self.choices.semantic, self.data).identity,
        }

    def warm_start(self, directory: Path) -> None:
        """See NetworkObjective."""
        super().warm_start(directory)
        self._warm = True

    def samples(self, batch: LatentBatch, generator: torch.Generator) -> list[Sample]:
        """See _FlowObjective; none where another codec than that of the codes made the latents."""
        maker = self.codecs()["codec"]
        heard = maker.weights_sha256 == self.data.codec_sha256
        return super().samples(batch, generator) if heard else []

    @torch.no_grad()
    def initialise(self, batches: Iterable[LatentBatch], generator: torch.Generator) -> None:  # noqa: ARG002
        """Start from the codec's vectors, if the settings say so and the weights are new."""
        if self.choices.embeddings == "codebooks" and not self._warm:
            self.network.semantic_table.weight.copy_(self.codebooks_QVZ[0])


def _stored(data: DataInfo) -> TokenIdentity:
    """The maker of the column `latents`. ValueError if its frames are not those of the codes."""
    maker, codes = column_identity("latents", data), codes_identity(data)
    same = maker.hop_length * codes.sample_rate == codes.hop_length * maker.sample_rate
    if not same or maker.frame_rate != codes.frame_rate:
        raise ValueError(
            f"latents of {maker.source} have {maker.frame_rate:g} frames per second, the codes of {data.codec} "
            f"{codes.frame_rate:g}; they must have as many"
        )
    return maker


def _read_latents(rows: Store, item: Item, channels: int, frames: int) -> Tensor:
    """Stored latents (frames, Z) of an item; the last one again where the codes have a frame more."""
    stored_TZ = np.frombuffer(rows.data(item.row, "latents"), "<f2").reshape(-1, channels)
    wanted = np.minimum(np.arange(item.start, item.start + frames), len(stored_TZ) - 1)
    return torch.from_numpy(stored_TZ[wanted].astype(np.float32))


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {
    "flow_matching": FlowMatchingObjective,
    "flow_matching_hierarchical": HierarchicalObjective,
}
