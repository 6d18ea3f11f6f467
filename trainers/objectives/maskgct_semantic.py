"""Masked-generative objectives of MaskGCT: text -> semantic tokens, and these -> the codes of a codec.

After arXiv 2409.00750, sections 3.1 and 3.2, and the training draws of open-mmlab/Amphion@d3de90f, which has no loss:
cross-entropy over hidden codes. Differences as in `maskgct_prefix.py`; S2A never loses its semantic tokens, since the
sampler's unconditional branch sees them, too.
Shapes: B rows, L text tokens, S semantic tokens, T frames, Q levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from models.checkpoints import Record, Values
from models.codecs.interface import Codes
from models.identity import TokenIdentity, check_frames
from models.layers.checks import check_positive
from models.layers.masks import length_mask, pad_rows
from models.maskgct.corruption import CorruptionConfig, LayerSchedule, corrupt, level_weights
from models.maskgct.sampling import SemanticConditions, generate_semantic_s2a
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig
from models.sampling.draws import GeneratorDraws, RowDraws, row_seeds
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice
from trainers.data import Collator
from trainers.objectives import DataInfo, Loss, Sample
from trainers.objectives.generator import TextBatch, pad_tokens
from trainers.objectives.lengths import length_rule
from trainers.objectives.maskgct_prefix import MaskGCTT2SObjective, T2SSettings, level_loss
from trainers.objectives.network import NetworkObjective, frame_mask
from trainers.objectives.semantic_tokens import (
    SemanticBatch,
    SemanticTokens,
    codes_identity,
    column_identity,
)
from trainers.plan import Item, Needs, Position
from trainers.store import Store
from trainers.text_tokens import TextTokens

COLUMN: Literal["semantic_codes"] = "semantic_codes"


@dataclass(frozen=True)
class SemanticT2SSettings(T2SSettings):
    """Settings of corrupting batches, with the published values; see `models.maskgct.corruption.CorruptionConfig`."""

    text: Values = field(default_factory=lambda: {"kind": "phonemes"})
    prompt_drop_prob: float = 0.15


class MaskGCTSemanticT2SObjective(MaskGCTT2SObjective):
    """Text -> semantic tokens, which a batch holds in the place of codes."""

    family = "maskgct_semantic_t2s"
    model_config = MaskGCTSemanticT2SConfig
    settings = SemanticT2SSettings

    @classmethod
    def needs(cls, settings: T2SSettings, data: DataInfo) -> Needs:
        """The column that the text front end reads, and that of the semantic tokens."""
        needs = super().needs(settings, data)
        return replace(needs, columns=(*needs.columns, COLUMN))

    @classmethod
    def collator(cls, settings: T2SSettings, data: DataInfo) -> Collator[TextBatch]:
        """Semantic tokens and tokens of the texts."""
        reader = _SemanticColumn(codes_identity(data), column_identity(COLUMN, data))
        return partial(_collate, TextTokens(settings.text, data.text), reader)

    @classmethod
    def derive(cls, settings: T2SSettings, data: DataInfo) -> Record:
        """The text table's size and the number of semantic tokens."""
        tokens = {"codebook_size": column_identity(COLUMN, data).codebook_size}
        return TextTokens(settings.text, data.text).sizes | tokens

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The semantic tokenizer; which codec the data has does not matter."""
        return {"semantic": column_identity(COLUMN, self.data)}

    def prepare_samples(self) -> None:
        """Semantic tokens alone cannot be heard."""

    def samples(self, batch: TextBatch, generator: torch.Generator) -> list[Sample]:  # noqa: ARG002
        """None, see `prepare_samples`."""
        return []

    def statistics(self, rows: Store) -> dict[str, float]:
        """The length of a sentence (`length_rule`), in frames of the semantic tokenizer."""
        every = rows.recorded().tolist()
        tokens = [len(self.tokens_of(rows, row)) for row in every]
        texts = [rows.text(row) for row in every]
        return length_rule(tokens, texts, [len(rows.numbers(row, COLUMN)) for row in every])


class _SemanticColumn:
    """Reads the semantic tokens of an item at their own rate."""

    def __init__(self, codes: TokenIdentity, semantic: TokenIdentity) -> None:
        self.codes, self.semantic = codes, semantic

    def __call__(self, rows: Store, item: Item) -> npt.NDArray[np.int64]:
        tokens, whole = rows.numbers(item.row, COLUMN), int(rows.lengths[item.row])
        try:
            check_frames(whole, self.codes, len(tokens), self.semantic)
        except ValueError as error:
            raise ValueError(f"row {rows.id(item.row)}: {error}") from error
        first = item.start * len(tokens) // whole
        stop = min(item.start + item.frames, whole) * len(tokens) // whole
        return tokens[first : max(stop, first + 1)]


def _collate(
    tokens_of: TextTokens, semantic: _SemanticColumn, rows: Store, items: Sequence[Item], position: Position
) -> TextBatch:
    read = [torch.from_numpy(semantic(rows, item).astype(np.int64)) for item in items]
    tokens_BS, mask_BS = pad_rows(read)
    lengths_B = mask_BS.sum(1)
    text_BL, text_mask_BL = pad_tokens([tokens_of(rows, item.row) for item in items])
    ids = tuple(rows.id(item.row) for item in items)
    codes = (tokens_BS[:, None], lengths_B)
    return TextBatch(position, ids, int(lengths_B.sum()), *codes, text_BL, text_mask_BL)


@dataclass(frozen=True)
class SemanticS2ASettings:
    """Levels, and how batches are corrupted; the published values of both networks."""

    n_levels: int = 0
    """Levels that are made, from the first on; 1: the published 1-layer network; 0: all of the codec."""
    first_level: int = 0
    """1 leaves level 0 to another network (the published full network)."""
    layer_schedule: LayerSchedule = "linear"
    """Weights of the levels, coarse to fine."""
    min_mask_prob: float = 0.0
    prompt_drop_prob: float = 0.15
    min_prompt_frames: int = 5
    max_prompt_fraction: float = 0.5
    draw_per: Literal["row", "batch"] = "row"
    sample_steps: int = 16
    """Sampler steps of the first level in the audio made at a validation."""

    def __post_init__(self) -> None:
        check_positive(self, ["sample_steps"])
        if self.n_levels < 0:
            raise ValueError(f"n_levels is {self.n_levels}; it must not be negative")
        self.corruption()

    def corruption(self) -> CorruptionConfig:
        """The settings of `models.maskgct.corruption.corrupt`."""
        return CorruptionConfig(
            self.min_mask_prob,
            self.prompt_drop_prob,
            0.0,
            self.min_prompt_frames,
            self.max_prompt_fraction,
            self.draw_per,
        )


class MaskGCTSemanticS2AObjective(NetworkObjective[SemanticBatch]):
    """Semantic tokens and the levels below -> one level."""

    family = "maskgct_semantic_s2a"
    model_config = MaskGCTSemanticS2AConfig
    settings = SemanticS2ASettings
    network: MaskGCTSemanticS2A

    def __init__(
        self, model: MaskGCTSemanticS2AConfig, settings: SemanticS2ASettings, data: DataInfo
    ) -> None:
        super().__init__(MaskGCTSemanticS2A(model), data)
        self.choices = settings
        self.weights_Q = level_weights(model.n_codebooks, settings.layer_schedule, model.first_level)

    @classmethod
    def derive(cls, settings: SemanticS2ASettings, data: DataInfo) -> Record:
        """Numbers of semantic tokens, levels and codes."""
        if settings.n_levels > data.n_codebooks:
            raise ValueError(
                f"n_levels is {settings.n_levels}; the codec {data.codec} has {data.n_codebooks}"
            )
        return {
            "semantic_vocab_size": column_identity(COLUMN, data).codebook_size,
            "n_codebooks": settings.n_levels or data.n_codebooks,
            "codebook_size": data.codebook_size,
            "first_level": settings.first_level,
        }

    @classmethod
    def needs(cls, settings: SemanticS2ASettings, data: DataInfo) -> Needs:  # noqa: ARG003
        """The column of semantic tokens."""
        return SemanticTokens(COLUMN, data).needs

    @classmethod
    def collator(cls, settings: SemanticS2ASettings, data: DataInfo) -> Collator[SemanticBatch]:  # noqa: ARG003
        """Codes and a semantic token for each of their frames."""
        return SemanticTokens(COLUMN, data).batch

    def codecs(self) -> Mapping[str, TokenIdentity]:
        """The codec and the semantic tokenizer."""
        return {"codec": codes_identity(self.data), "semantic": column_identity(COLUMN, self.data)}

    def loss(self, batch: SemanticBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the hidden codes of each row's level."""
        codes_BQT = batch.codes_BQT[:, : self.network.n_levels]
        draws = GeneratorDraws(generator, codes_BQT.device)
        n_frames, corruption = codes_BQT.shape[2], self.choices.corruption()
        drawn = corrupt(batch.lengths_B, n_frames, corruption, draws, self.weights_Q)
        logits_MV = self.network(
            batch.semantic_BT,
            codes_BQT.transpose(1, 2),
            drawn.masked_BT,
            length_mask(drawn.prompt_lengths_B, n_frames),
            frame_mask(batch),
            drawn.levels_B,
            drawn.times_B,
            where_BT=drawn.masked_BT,
        )
        return level_loss(logits_MV, codes_BQT, drawn)

    def samples(self, batch: SemanticBatch, generator: torch.Generator) -> list[Sample]:
        """The rows made again from their semantic tokens without a prompt, and the recordings with as many levels."""
        n_levels, first_level = self.network.n_levels, self.network.first_level
        recorded_BQT, lengths = batch.codes_BQT[:, :n_levels], batch.lengths_B.tolist()
        nothing_BPQ = recorded_BQT.new_zeros(len(lengths), 0, n_levels)
        nothing_BP = nothing_BPQ[..., 0]
        given = SemanticConditions(batch.semantic_BT, nothing_BP, nothing_BPQ, nothing_BP.bool(), lengths)
        steps = [self.choices.sample_steps if level == first_level else 1 for level in range(n_levels)]
        known_BTg = recorded_BQT[:, :first_level].transpose(1, 2)
        draws = RowDraws(row_seeds(generator, len(lengths)), recorded_BQT.device)
        made = generate_semantic_s2a(
            self.network, given, known_BTg, steps, TokenChoice(1.5), Guidance(2.5, 0.75), draws
        )
        pairs = (("generated", made.codes_BTQ.transpose(1, 2)), ("recorded", recorded_BQT))
        return [
            sample
            for what, codes_BQT in pairs
            for sample in self.heard(batch.ids, what, Codes(codes_BQT, batch.lengths_B))
        ]
