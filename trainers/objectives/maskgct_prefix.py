"""Masked-generative objectives of MaskGCT without semantic tokens: text -> codebook 0, then the finer codebooks.

After choiHkk/maskgct (section 3.1 of arXiv 2409.00750): cross-entropy over hidden codes. Differences: rows draw
their own prompt coin and level, and lose their text with probability 0.1: that trains the sampler's other branch.
Shapes: B rows, L text tokens, T frames, Q levels, V codes, M hidden frames.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from models.checkpoints import Record, Values
from models.codecs.interface import Codes
from models.layers.masks import length_mask
from models.maskgct.corruption import (
    Corruption,
    CorruptionConfig,
    LayerSchedule,
    corrupt,
    level_weights,
)
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.sampling import Conditions, generate_s2a, generate_t2s
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.sampling.draws import GeneratorDraws, RowDraws, row_seeds
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice
from trainers.data import Collator
from trainers.objectives import DataInfo, Loss, Sample
from trainers.objectives.generator import GeneratorObjective, TextBatch, collate_text
from trainers.objectives.lengths import length_rule
from trainers.objectives.network import cross_entropy, frame_mask
from trainers.store import Store
from trainers.text_tokens import TextTokens


@dataclass(frozen=True)
class T2SSettings:
    """Settings of corrupting batches; see `models.maskgct.corruption.CorruptionConfig`."""

    text: Values = field(default_factory=lambda: {"kind": "bytes"})
    """The text front end; see `models.text.settings.TextSettings`."""
    min_mask_prob: float = 0.2
    prompt_drop_prob: float = 0.2
    text_drop_prob: float = 0.1
    min_prompt_frames: int = 5
    max_prompt_fraction: float = 0.4
    draw_per: Literal["row", "batch"] = "row"
    sample_steps: int = 16
    """Sampler steps of the audio made at a validation."""

    def __post_init__(self) -> None:
        self.corruption()

    def corruption(self) -> CorruptionConfig:
        """The settings of `models.maskgct.corruption.corrupt`."""
        return CorruptionConfig(
            self.min_mask_prob,
            self.prompt_drop_prob,
            self.text_drop_prob,
            self.min_prompt_frames,
            self.max_prompt_fraction,
            self.draw_per,
        )


@dataclass(frozen=True)
class S2ASettings(T2SSettings):
    """The same with the published values of S2A, and which level is learned how often."""

    min_mask_prob: float = 0.0
    prompt_drop_prob: float = 0.15
    layer_schedule: LayerSchedule = "cosine"
    """Weights of the levels, coarse to fine."""
    first_level: int = 0
    """0 learns codebook 0 as well (the published default), 1 leaves it to T2S."""


class _MaskGCTObjective(GeneratorObjective[TextBatch], ABC):
    """The corruption and what is heard of both stages."""

    def __init__(self, network: MaskGCTT2S | MaskGCTS2A, settings: T2SSettings, data: DataInfo) -> None:
        super().__init__(network, settings, data)
        self.corruption = settings.corruption()
        self.sample_steps = settings.sample_steps

    @classmethod
    def collator(cls, settings: T2SSettings, data: DataInfo) -> Collator[TextBatch]:
        """Codes and tokens of the texts."""
        return partial(collate_text, TextTokens(settings.text, data.text))

    def corrupted(
        self, batch: TextBatch, generator: torch.Generator, weights_Q: Tensor | None = None
    ) -> Corruption:
        """Hide codes of a batch; the same ones on every device."""
        draws = GeneratorDraws(generator, batch.codes_BQT.device)
        return corrupt(batch.lengths_B, batch.codes_BQT.shape[2], self.corruption, draws, weights_Q)

    def samples(self, batch: TextBatch, generator: torch.Generator) -> list[Sample]:
        """The batch's texts spoken in the recordings' lengths without a voice prompt, and the recordings."""
        lengths = batch.lengths_B.tolist()
        prompt_BPQ = batch.codes_BQT.new_zeros(len(lengths), 0, batch.codes_BQT.shape[1])
        given = Conditions(batch.text_BL, batch.text_mask_BL, prompt_BPQ, prompt_BPQ[..., 0].bool(), lengths)
        draws = RowDraws(row_seeds(generator, len(lengths)), batch.codes_BQT.device)
        spoken = self.generate(batch, given, draws)
        pairs = (("generated", spoken), ("recorded", batch.codes_BQT))
        return [
            sample
            for what, codes_BQT in pairs
            for sample in self.heard(batch.ids, what, Codes(codes_BQT, batch.lengths_B))
        ]

    @abstractmethod
    def generate(self, batch: TextBatch, given: Conditions, draws: RowDraws) -> Tensor:
        """Codes (B, q, T) of the first q levels."""

    def statistics(self, rows: Store) -> dict[str, float]:
        """The length of a sentence whose length is not given (`length_rule`)."""
        recorded = rows.recorded()
        tokens = [len(self.tokens_of(rows, row)) for row in recorded.tolist()]
        texts = [rows.text(row) for row in recorded.tolist()]
        return length_rule(tokens, texts, rows.lengths[recorded].tolist())


class MaskGCTT2SObjective(_MaskGCTObjective):
    """Text -> codebook 0."""

    family = "maskgct_t2s"
    model_config = MaskGCTT2SConfig
    settings = T2SSettings
    network: MaskGCTT2S

    def __init__(self, model: MaskGCTT2SConfig, settings: T2SSettings, data: DataInfo) -> None:
        super().__init__(MaskGCTT2S(model), settings, data)

    @classmethod
    def derive(cls, settings: T2SSettings, data: DataInfo) -> Record:
        """The text table's size and the codebook's."""
        return TextTokens(settings.text, data.text).sizes | {"codebook_size": data.codebook_size}

    def loss(self, batch: TextBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the hidden codes of codebook 0."""
        codes_BT = batch.codes_BQT[:, 0]
        drawn = self.corrupted(batch, generator)
        logits_MV = self.network(
            batch.text_BL,
            batch.text_mask_BL & drawn.keep_text_B[:, None],
            codes_BT,
            drawn.masked_BT,
            frame_mask(batch),
            drawn.times_B,
            where_BT=drawn.masked_BT,
        )
        return cross_entropy(logits_MV, codes_BT[drawn.masked_BT])

    def generate(self, batch: TextBatch, given: Conditions, draws: RowDraws) -> Tensor:  # noqa: ARG002
        """Codebook 0 alone, which sounds coarse."""
        made = generate_t2s(self.network, given, self.sample_steps, TokenChoice(), Guidance(), draws)
        return made.codes_BTQ.transpose(1, 2)


class MaskGCTS2AObjective(_MaskGCTObjective):
    """Text and the levels below -> one level."""

    family = "maskgct_s2a"
    model_config = MaskGCTS2AConfig
    settings = S2ASettings
    network: MaskGCTS2A

    def __init__(self, model: MaskGCTS2AConfig, settings: S2ASettings, data: DataInfo) -> None:
        super().__init__(MaskGCTS2A(model), settings, data)
        if not 0 <= settings.first_level < model.n_codebooks:
            raise ValueError(
                f"first_level is {settings.first_level}: must be from 0 to {model.n_codebooks - 1}, "
                f"the last of {model.n_codebooks} codebooks"
            )
        self.weights_Q = level_weights(model.n_codebooks, settings.layer_schedule, settings.first_level)

    @classmethod
    def derive(cls, settings: S2ASettings, data: DataInfo) -> Record:
        """The text table's size, the number of codebooks and their size."""
        sizes = {"n_codebooks": data.n_codebooks, "codebook_size": data.codebook_size}
        return TextTokens(settings.text, data.text).sizes | sizes

    def loss(self, batch: TextBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the hidden codes of each row's level."""
        codes_BTQ = batch.codes_BQT.transpose(1, 2)
        drawn = self.corrupted(batch, generator, self.weights_Q)
        logits_MV = self.network(
            batch.text_BL,
            batch.text_mask_BL & drawn.keep_text_B[:, None],
            codes_BTQ,
            drawn.masked_BT,
            length_mask(drawn.prompt_lengths_B, codes_BTQ.shape[1]),
            frame_mask(batch),
            drawn.levels_B,
            drawn.times_B,
            where_BT=drawn.masked_BT,
        )
        return level_loss(logits_MV, batch.codes_BQT, drawn)

    def generate(self, batch: TextBatch, given: Conditions, draws: RowDraws) -> Tensor:
        """All levels, from the recordings' codebook 0."""
        n_steps = [self.sample_steps] * 2 + [1] * self.network.config.n_codebooks
        known_BT1 = batch.codes_BQT[:, :1].transpose(1, 2)
        steps = n_steps[: self.network.config.n_codebooks]
        made = generate_s2a(self.network, given, known_BT1, steps, TokenChoice(), Guidance(), draws)
        return made.codes_BTQ.transpose(1, 2)


def level_loss(logits_MV: Tensor, codes_BQT: Tensor, drawn: Corruption) -> Loss:
    """Cross-entropy of the hidden codes of each row's level."""
    rows_B = torch.arange(len(codes_BQT), device=codes_BQT.device)
    codes_BT = codes_BQT[rows_B, drawn.levels_B]
    return cross_entropy(logits_MV, codes_BT[drawn.masked_BT])
