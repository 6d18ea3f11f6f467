"""Masked-generative objectives of MaskGCT without semantic tokens: text -> codebook 0, then the finer codebooks.

After choiHkk/maskgct (section 3.1 of arXiv 2409.00750): cross-entropy over hidden codes. Differences: rows draw
their own prompt coin and level, and lose their text with probability 0.1: that trains the sampler's other branch.
Shapes: B rows, L text tokens, T frames, Q levels, V codes.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.codec_sources import load_codec
from models.codecs.interface import Codec, Codes
from models.generators import load_generator, save_generator
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
from trainers.data import CodesBatch, Collator, collate_codes
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric
from trainers.plan import Item, Needs, Position
from trainers.store import Store
from trainers.text_tokens import LEGACY, TextTokens, completed


@dataclass(frozen=True)
class T2SSettings:
    """How batches are corrupted; see `models.maskgct.corruption.CorruptionConfig`."""

    text: Mapping[str, Any] = field(default_factory=lambda: {"kind": "bytes"})
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


@dataclass(frozen=True)
class TextBatch(CodesBatch):
    """Codes with their text."""

    text_BL: Tensor
    """Token ids, int64, padded on the right, L at least 1."""
    text_mask_BL: Tensor
    """Bool, true at tokens."""


class _MaskGCTObjective(Objective[TextBatch], ABC):
    """What both stages share: text, corruption, cross-entropy, export."""

    family: str
    legacy = LEGACY

    def __init__(self, network: MaskGCTT2S | MaskGCTS2A, settings: T2SSettings, data: DataInfo) -> None:
        super().__init__(data)
        self.network = network
        self.corruption = settings.corruption()
        self.tokens_of = TextTokens(settings.text, data.text)
        self.sample_steps = settings.sample_steps
        self._codec: Codec | None = None

    @classmethod
    def resolve(cls, settings: T2SSettings, data: DataInfo) -> T2SSettings:
        """With all settings of the text front end."""
        return replace(settings, text=completed(settings.text, data.text))

    @classmethod
    def needs(cls, settings: T2SSettings, data: DataInfo) -> Needs:
        """The column that the text front end reads."""
        return TextTokens(settings.text, data.text).needs

    @classmethod
    def collator(cls, settings: T2SSettings, data: DataInfo) -> Collator[TextBatch]:
        """Codes and tokens of the texts."""
        tokens_of = TextTokens(settings.text, data.text)

        def collate(rows: Store, items: Sequence[Item], position: Position) -> TextBatch:
            codes = collate_codes(rows, items, position)
            text_BL, mask_BL = pad_tokens([tokens_of(rows, item.row) for item in items])
            return TextBatch(**vars(codes), text_BL=text_BL, text_mask_BL=mask_BL)

        return collate

    def corrupted(
        self, batch: TextBatch, generator: torch.Generator, weights_Q: Tensor | None = None
    ) -> Corruption:
        """Draws on the CPU, so that they are the same on every device."""
        lengths_B = batch.lengths_B.cpu()
        drawn = corrupt(
            lengths_B, batch.codes_BQT.shape[2], self.corruption, GeneratorDraws(generator), weights_Q
        )
        device = batch.codes_BQT.device
        return Corruption(**{name: value.to(device) for name, value in vars(drawn).items()})

    def cross_entropy(self, logits_BTV: Tensor, codes_BT: Tensor, masked_BT: Tensor) -> Loss:
        """Sum over hidden frames, their number, and how many were guessed right."""
        logits_NV, codes_N = logits_BTV[masked_BT].float(), codes_BT[masked_BT]
        right = (logits_NV.detach().argmax(-1) == codes_N).sum()
        count = masked_BT.sum()
        loss = F.cross_entropy(logits_NV, codes_N, reduction="sum")
        return Loss(loss, count, {"accuracy": mean_metric(right, count)})

    def prepare_samples(self) -> None:
        """Load the codec. ValueError or FileNotFoundError if it is not there, or is another one by now."""
        self._codec = load_codec(self.data.codec, next(self.network.parameters()).device)
        if self._codec.weights_sha256 != self.data.codec_sha256:
            raise ValueError(
                f"the data was made by {self.data.codec} with the weights {self.data.codec_sha256[:12]}, "
                f"which are now {self._codec.weights_sha256[:12]}: prepare the data again"
            )

    def samples(self, batch: TextBatch, generator: torch.Generator) -> list[Sample]:
        """The batch's texts spoken in the recordings' lengths without a voice prompt, and the recordings."""
        assert self._codec is not None
        lengths = batch.lengths_B.tolist()
        prompt_BPQ = batch.codes_BQT.new_zeros(len(lengths), 0, batch.codes_BQT.shape[1])
        given = Conditions(batch.text_BL, batch.text_mask_BL, prompt_BPQ, prompt_BPQ[..., 0].bool(), lengths)
        draws = RowDraws(row_seeds(generator, len(lengths)), batch.codes_BQT.device)
        spoken = self.generate(batch, given, draws)
        found = []
        for what, codes_BQT in (("generated", spoken), ("recorded", batch.codes_BQT)):
            wave = self._codec.decode(Codes(codes_BQT, batch.lengths_B))
            rows = zip(batch.ids, wave.wave_BT, wave.lengths_B.tolist(), strict=True)
            found += [Sample(f"{row}-{what}", wave_T[:n], wave.sample_rate) for row, wave_T, n in rows]
        return found

    @abstractmethod
    def generate(self, batch: TextBatch, given: Conditions, draws: RowDraws) -> Tensor:
        """Codes (B, q, T) of the first q levels."""

    def statistics(self, rows: Store) -> dict[str, float]:
        """`frames_per_token`: the length of a sentence that is spoken without a voice prompt."""
        tokens = sum(len(self.tokens_of(rows, row)) for row in range(len(rows)))
        return {"frames_per_token": int(rows.lengths.sum()) / max(1, tokens)}

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a generator directory of the same family and sizes."""
        family, module = load_generator(directory)
        if family != self.family or module.config != self.network.config:
            raise ValueError(
                f"{directory} holds a {family} of {module.config}, not a {self.family} of {self.network.config}"
            )
        self.network.load_state_dict(module.state_dict())

    def export(self, directory: Path) -> None:
        """A generator directory, and the text front end in `text.json`, its files in `text/`."""
        save_generator(self.network, self.family, directory)
        text = json.dumps(self.tokens_of.front_end.save(directory))
        (directory / "text.json").write_text(text + "\n", encoding="utf-8")


class MaskGCTT2SObjective(_MaskGCTObjective):
    """Text -> codebook 0."""

    family = "maskgct_t2s"
    model_config = MaskGCTT2SConfig
    settings = T2SSettings
    network: MaskGCTT2S

    def __init__(self, model: MaskGCTT2SConfig, settings: T2SSettings, data: DataInfo) -> None:
        super().__init__(MaskGCTT2S(model), settings, data)

    @classmethod
    def derive(cls, settings: T2SSettings, data: DataInfo) -> dict[str, Any]:
        """The text table's size and the codebook's."""
        vocab_size = TextTokens(settings.text, data.text).front_end.vocab_size
        return {"text_vocab_size": vocab_size, "codebook_size": data.codebook_size}

    def loss(self, batch: TextBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the hidden codes of codebook 0."""
        codes_BT = batch.codes_BQT[:, 0]
        drawn = self.corrupted(batch, generator)
        logits_BTV = self.network(
            batch.text_BL,
            batch.text_mask_BL & drawn.keep_text_B[:, None],
            codes_BT,
            drawn.masked_BT,
            frame_mask(batch),
            drawn.times_B,
        )
        return self.cross_entropy(logits_BTV, codes_BT, drawn.masked_BT)

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
    def derive(cls, settings: S2ASettings, data: DataInfo) -> dict[str, Any]:
        """The text table's size, the number of codebooks and their size."""
        vocab_size = TextTokens(settings.text, data.text).front_end.vocab_size
        sizes = {"n_codebooks": data.n_codebooks, "codebook_size": data.codebook_size}
        return {"text_vocab_size": vocab_size, **sizes}

    def loss(self, batch: TextBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the hidden codes of each row's level."""
        codes_BTQ = batch.codes_BQT.transpose(1, 2)
        drawn = self.corrupted(batch, generator, self.weights_Q)
        frames_T = torch.arange(codes_BTQ.shape[1], device=codes_BTQ.device)
        logits_BTV = self.network(
            batch.text_BL,
            batch.text_mask_BL & drawn.keep_text_B[:, None],
            codes_BTQ,
            drawn.masked_BT,
            frames_T < drawn.prompt_lengths_B[:, None],
            frame_mask(batch),
            drawn.levels_B,
            drawn.times_B,
        )
        rows_B = torch.arange(len(codes_BTQ), device=codes_BTQ.device)
        return self.cross_entropy(logits_BTV, batch.codes_BQT[rows_B, drawn.levels_B], drawn.masked_BT)

    def generate(self, batch: TextBatch, given: Conditions, draws: RowDraws) -> Tensor:
        """All levels, from the recordings' codebook 0."""
        n_steps = [self.sample_steps] * 2 + [1] * self.network.config.n_codebooks
        known_BT1 = batch.codes_BQT[:, :1].transpose(1, 2)
        steps = n_steps[: self.network.config.n_codebooks]
        made = generate_s2a(self.network, given, known_BT1, steps, TokenChoice(), Guidance(), draws)
        return made.codes_BTQ.transpose(1, 2)


def frame_mask(batch: CodesBatch) -> Tensor:
    """Bool (B, T), true at valid frames."""
    frames_T = torch.arange(batch.codes_BQT.shape[2], device=batch.lengths_B.device)
    return frames_T < batch.lengths_B[:, None]


def pad_tokens(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids int64 (B, L), L at least 1, and a bool mask (B, L)."""
    longest = max(1, max(map(len, rows)))
    ids_BL = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    lengths_B = torch.tensor([len(row) for row in rows])
    return ids_BL, torch.arange(longest) < lengths_B[:, None]


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {
    "maskgct_t2s": MaskGCTT2SObjective,
    "maskgct_s2a": MaskGCTS2AObjective,
}
