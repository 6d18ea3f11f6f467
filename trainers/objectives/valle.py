"""VALL-E's objectives: the first level token by token, and the other levels each from those below it.

After enhuiz/vall-e@3476d39 and e-c-k-e-r/vall-e (2023-08, described by its users' pages). Differences: the first token
and the text are counted as `ValleARSettings` says; a prompt cut from the target itself is never more than half of it,
since otherwise the network learns to copy.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels, V codes, N targets.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from models.checkpoints import Json, Record, Values
from models.codecs.interface import Codes
from models.generators import load_generator
from models.layers.masks import length_mask, pad_rows
from models.sampling.autoregressive import Limits, Sampler
from models.sampling.draws import RowDraws, row_seeds
from models.sampling.token_sampling import TokenSampling
from models.tasks import EDITING, SPEAK, TASKS, VOICED, check_tokens
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.growth import take_weights
from models.valle.nar import ValleNAR
from models.valle.network import ValleNetwork
from models.valle.sampling import Conditions, generate_first_level, generate_other_levels
from trainers.data import Collator, code_numbers
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric
from trainers.objectives.generator import GeneratorObjective, TextBatch, collate_text
from trainers.objectives.network import cross_entropy, frame_mask
from trainers.plan import Item, Needs, Position
from trainers.store import Store
from trainers.text_tokens import LEGACY, TextTokens


@dataclass(frozen=True)
class ValleSettings:
    """The text front end and the voice prompts; the defaults are the published ones."""

    text: Values = field(default_factory=lambda: {"kind": "bytes"})
    """See `models.text.settings.TextSettings`."""
    prompts: Literal["companions", "self", "none"] = "companions"
    """Where a voice prompt comes from: other utterances of the speaker (rows without one are left out), the row
    itself, or nowhere."""
    max_prompts: int = 3
    """Utterances that a prompt is joined of, as many as it takes."""
    prompt_duration_s: float = 3.0
    prompt_jitter_s: float = 0.2
    """A prompt is up to this much shorter or longer."""
    self_prompt_prob: float = 0.0
    """Share of the rows whose prompt is cut from the row itself."""
    no_prompt_prob: float = 0.0
    """Share of the rows that have none, for a system that also speaks without."""
    tasks: tuple[str, ...] = ()
    """Speech tasks that are learned besides speaking, of `models.tasks`, from rows that `prepare` derived for them.
    The networks need `n_task_tokens`."""
    task_text_prob: float = 0.5
    """Share of the rows of tasks that can do without their text that have it."""

    def __post_init__(self) -> None:
        if self.prompts not in ("companions", "self", "none"):
            raise ValueError(f"prompts is {self.prompts!r}; it must be 'companions', 'self' or 'none'")
        if self.max_prompts < 1:
            raise ValueError(f"max_prompts is {self.max_prompts}; it must be at least 1")
        if not 0 <= self.prompt_jitter_s < self.prompt_duration_s:
            raise ValueError(
                f"prompt_jitter_s is {self.prompt_jitter_s:g} with prompt_duration_s {self.prompt_duration_s:g}; "
                "it must be from 0 to less than that"
            )
        for task in self.tasks:
            if task not in TASKS:
                raise ValueError(f"tasks holds {task!r}; known: {', '.join(TASKS)}")
            if task in VOICED and self.prompts == "none":
                raise ValueError(f"task {task} needs a voice prompt; prompts is 'none'")
        for name in ("self_prompt_prob", "no_prompt_prob", "task_text_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 0 and 1")

    def prompt_frames(self, data: DataInfo) -> tuple[int, int]:
        """The shortest and the longest prompt."""
        rate = data.sample_rate / data.hop_length
        least = round((self.prompt_duration_s - self.prompt_jitter_s) * rate)
        return max(1, least), max(1, round((self.prompt_duration_s + self.prompt_jitter_s) * rate))


@dataclass(frozen=True)
class ValleARSettings(ValleSettings):
    """The same with what the first network's loss counts."""

    text_loss_weight: float = 1.0
    """Of the loss that predicts the text, too. 1 is the published one, whose mean is over all targets; 0 leaves it
    out."""
    first_token: Literal["learned", "ignored"] = "learned"
    """`ignored` is published: nothing teaches which token comes first."""
    hidden_tokens: float = 0.0
    """Share of the codes that training hides from the network, so that it must read the text (word dropout, arXiv
    1511.06349); published is none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hidden_tokens < 1:
            raise ValueError(f"hidden_tokens is {self.hidden_tokens}; it must be from 0 to below 1")
        if not self.text_loss_weight >= 0:
            raise ValueError(f"text_loss_weight is {self.text_loss_weight}; it must not be negative")
        if self.first_token not in ("learned", "ignored"):
            raise ValueError(f"first_token is {self.first_token!r}; it must be 'learned' or 'ignored'")


@dataclass(frozen=True)
class PromptedBatch(TextBatch):
    """Codes with their text and voice prompts."""

    prompt_BPQ: Tensor
    """int64, all levels of the codec; P may be 0."""
    prompt_mask_BP: Tensor
    """Bool, true at frames of the prompt."""

    def conditions(self, prompt_levels: int) -> Conditions:
        """Inputs of a network with so many prompt levels."""
        prompt_BPQ = self.prompt_BPQ[..., :prompt_levels]
        return Conditions(self.text_BL, self.text_mask_BL, prompt_BPQ, self.prompt_mask_BP)


def prompt_of(
    rows: Store, item: Item, settings: ValleSettings, limits: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """The prompt (P, Q) of one row, int64, drawn from `generator`: a voice and, of a row for a speech task, its own.

    `limits` are the least and most frames of the voice.
    """
    task = task_of(rows, item.row, settings)
    if task == SPEAK:
        return _voice_of(rows, item, settings, limits, generator)
    own_PQ = torch.from_numpy(rows.numbers(item.row, "prompt_codes").T.copy())
    if task not in VOICED:
        return own_PQ
    always = replace(settings, no_prompt_prob=0.0)
    return torch.cat([_voice_of(rows, item, always, limits, generator), own_PQ])


def task_of(rows: Store, row: int, settings: ValleSettings) -> str:
    """The task of a row, `tts` for utterances and their copies."""
    return (rows.text(row, "task") or SPEAK) if settings.tasks and rows.may_be_derived else SPEAK


def _voice_of(
    rows: Store, item: Item, settings: ValleSettings, limits: tuple[int, int], generator: torch.Generator
) -> Tensor:

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    def cut(row: int, frames: int) -> Tensor:
        start = draw(0, int(rows.lengths[row]) - frames)
        return code_numbers(torch.from_numpy(rows.codes(row)[:, start : start + frames].T.copy()))

    frames = draw(*limits)
    own, absent = torch.rand(2, generator=generator).tolist()
    if settings.prompts == "none" or absent < settings.no_prompt_prob:
        return torch.zeros(0, rows.n_codebooks, dtype=torch.int64)
    if settings.prompts == "self" or own < settings.self_prompt_prob:
        return cut(item.row, min(frames, -(-int(rows.lengths[item.row]) // 2)))
    found: list[Tensor] = []
    for row in dict.fromkeys(item.companions):
        missing = frames - sum(map(len, found))
        if missing > 0:
            found.append(cut(row, min(missing, int(rows.lengths[row]))))
    return torch.cat(found)


def _is_said(task: str, settings: ValleSettings, generator: torch.Generator) -> bool:
    """True for a row whose text is read."""
    if task == SPEAK or task in EDITING:
        return True
    return float(torch.rand((), generator=generator)) < settings.task_text_prob


class _ValleObjective(GeneratorObjective[PromptedBatch], ABC):
    """Base of both stages: prompts, samples, larger tables."""

    network: ValleAR | ValleNAR
    legacy: ClassVar[Mapping[str, Json]] = {**LEGACY, "tasks": [], "task_text_prob": 0.5}

    def __init__(self, network: ValleAR | ValleNAR, settings: ValleSettings, data: DataInfo) -> None:
        super().__init__(network, settings, data)
        for task in settings.tasks:
            check_tokens(task, network.config.n_task_tokens)

    @classmethod
    def needs(cls, settings: ValleSettings, data: DataInfo) -> Needs:
        """The column that the text front end reads, utterances of the same speaker, and rows for the tasks."""
        text = super().needs(settings, data)
        text = replace(text, tasks=(*text.tasks, *settings.tasks), prompts=bool(settings.tasks))
        if settings.prompts != "companions":
            return text
        frames = math.ceil(settings.prompt_frames(data)[1] / settings.max_prompts)
        companions = settings.max_prompts
        return replace(text, companions=companions, companion_frames=frames, least_companions=1)

    @classmethod
    def collator(cls, settings: ValleSettings, data: DataInfo) -> Collator[PromptedBatch]:
        """Codes, tokens of the texts, and prompts; some rows for tasks lose their text."""
        tokens_of, limits = TextTokens(settings.text, data.text), settings.prompt_frames(data)

        def collate(rows: Store, items: Sequence[Item], position: Position) -> PromptedBatch:
            generators = [torch.Generator().manual_seed(item.seed) for item in items]
            prompts = [
                prompt_of(rows, item, settings, limits, generator)
                for item, generator in zip(items, generators, strict=True)
            ]
            said = [
                _is_said(task_of(rows, item.row, settings), settings, generator)
                for item, generator in zip(items, generators, strict=True)
            ]
            texts = collate_text(tokens_of, rows, items, position, said)
            prompt_BPQ, prompt_mask_BP = pad_rows(prompts)
            return PromptedBatch(**vars(texts), prompt_BPQ=prompt_BPQ, prompt_mask_BP=prompt_mask_BP)

        return collate

    def samples(self, batch: PromptedBatch, generator: torch.Generator) -> list[Sample]:
        """The batch's texts spoken in the voices of its prompts, and the recordings."""
        draws = RowDraws(row_seeds(generator, len(batch.ids)), batch.codes_BQT.device)
        spoken_BTQ, lengths_B = self.generate(batch, draws)
        return [
            *self.heard(batch.ids, "generated", Codes(spoken_BTQ.transpose(1, 2), lengths_B)),
            *self.heard(batch.ids, "recorded", Codes(batch.codes_BQT, batch.lengths_B)),
        ]

    @abstractmethod
    def generate(self, batch: PromptedBatch, draws: RowDraws) -> tuple[Tensor, Tensor]:
        """Codes (B, T, q) of the first q levels, and the frames of each row."""

    def statistics(self, rows: Store) -> dict[str, float]:
        """`frames_per_token`: what a sentence without a given length may be a multiple of."""
        recorded = rows.recorded()
        tokens = sum(len(self.tokens_of(rows, row)) for row in recorded.tolist())
        return {"frames_per_token": int(rows.lengths[recorded].sum()) / max(1, tokens)}

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a generator directory of the same family and sizes.

        Its tables may be smaller (prompt levels, tasks), and its text table also larger.
        """
        family, module = load_generator(directory)
        if family != self.family:
            raise ValueError(f"{directory} holds a {family}, not a {self.family}")
        assert isinstance(module, ValleNetwork)
        try:
            take_weights(self.network, module)
        except ValueError as error:
            raise ValueError(f"{directory} does not fit: {error}") from error


class ValleARObjective(_ValleObjective):
    """Text and a voice prompt -> the first level and where it ends."""

    legacy: ClassVar[Mapping[str, Json]] = {**_ValleObjective.legacy, "hidden_tokens": 0.0}
    family = "valle_ar"
    model_config = ValleARConfig
    settings = ValleARSettings
    network: ValleAR

    def __init__(self, model: ValleARConfig, settings: ValleARSettings, data: DataInfo) -> None:
        super().__init__(ValleAR(model), settings, data)
        self.text_loss_weight, self.first_token = settings.text_loss_weight, settings.first_token
        self.hidden_tokens = settings.hidden_tokens
        if self.text_loss_weight and model.text_vocab_size > model.codebook_size + 1:
            raise ValueError(
                f"the text has {model.text_vocab_size} ids and the head {model.codebook_size + 1} classes; "
                "text_loss_weight must be 0"
            )

    @classmethod
    def derive(cls, settings: ValleARSettings, data: DataInfo) -> Record:
        """The text table's size and the codebook's."""
        return TextTokens(settings.text, data.text).sizes | {"codebook_size": data.codebook_size}

    def loss(self, batch: PromptedBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of the tokens of level 0 with the stop token, and of the text by its weight."""
        seen_BT: Tensor | None = None
        if self.training and self.hidden_tokens:
            seen_BT = torch.rand(batch.codes_BQT[:, 0].shape, generator=generator) >= self.hidden_tokens
            seen_BT = seen_BT.to(batch.codes_BQT.device)
        codes_BT, mask_BT = batch.codes_BQT[:, 0], frame_mask(batch)
        given, n_text = batch.conditions(self.network.config.prompt_levels), batch.text_BL.shape[1]
        logits_BSV = self.network(
            *given.inputs(), codes_BT, mask_BT, predicts="text_and_codes", seen_BT=seen_BT
        )
        targets_BT = F.pad(codes_BT, (0, 1)).scatter(
            1, batch.lengths_B[:, None], self.network.config.codebook_size
        )
        counted_BT = length_mask(batch.lengths_B + 1, targets_BT.shape[1])
        if self.first_token == "ignored":
            counted_BT = counted_BT & (torch.arange(targets_BT.shape[1], device=counted_BT.device) > 0)
        found = cross_entropy(logits_BSV[:, n_text:][counted_BT], targets_BT[counted_BT])
        rows_B = torch.arange(len(codes_BT), device=codes_BT.device)
        stopped_B = logits_BSV[rows_B, n_text + batch.lengths_B].argmax(-1)
        right_stops = (stopped_B == self.network.config.codebook_size).sum()
        metrics = {**found.metrics, "stop_accuracy": mean_metric(right_stops, len(stopped_B))}
        if not self.text_loss_weight:
            return Loss(found.sum, found.count, metrics)
        # The last text token is followed by the separator, which is no class.
        following_BL = batch.text_mask_BL[:, 1:]
        text = cross_entropy(logits_BSV[:, : n_text - 1][following_BL], batch.text_BL[:, 1:][following_BL])
        weight = self.text_loss_weight
        metrics["loss_codes"] = mean_metric(found.sum, found.count)
        return Loss(found.sum + weight * text.sum, found.count + weight * text.count, metrics)

    def generate(self, batch: PromptedBatch, draws: RowDraws) -> tuple[Tensor, Tensor]:
        """Level 0 alone, which sounds coarse, of at most twice the recording's length."""
        maximum = [2 * int(length) for length in batch.lengths_B]
        limits = Limits(self.network.config.codebook_size, maximum, [1] * len(maximum))
        search = Sampler(TokenSampling(temperature=0.95), limits, draws)
        given = batch.conditions(self.network.config.prompt_levels)
        made = generate_first_level(self.network, given, search, max(maximum))
        codes_BT, mask_BT = pad_rows([one.tokens_N for one in made])
        return codes_BT[..., None], mask_BT.sum(1)


class ValleNARObjective(_ValleObjective):
    """Text, a voice prompt and the levels below -> one level, another one for each row."""

    family = "valle_nar"
    model_config = ValleNARConfig
    settings = ValleSettings
    network: ValleNAR

    def __init__(self, model: ValleNARConfig, settings: ValleSettings, data: DataInfo) -> None:
        super().__init__(ValleNAR(model), settings, data)

    @classmethod
    def derive(cls, settings: ValleSettings, data: DataInfo) -> Record:
        """The text table's size, the number of codebooks and their size."""
        sizes = {"n_codebooks": data.n_codebooks, "codebook_size": data.codebook_size}
        return TextTokens(settings.text, data.text).sizes | sizes

    def loss(self, batch: PromptedBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Cross-entropy of each row's level at all its frames."""
        n_rows, codes_BTQ = len(batch.codes_BQT), batch.codes_BQT.transpose(1, 2)
        drawn_B = torch.randint(1, self.network.config.n_codebooks, (n_rows,), generator=generator)
        levels_B = drawn_B.to(codes_BTQ.device)
        given, mask_BT = batch.conditions(self.network.config.prompt_levels), frame_mask(batch)
        logits_BTV = self.network(*given.inputs(), codes_BTQ, mask_BT, levels_B)
        targets_BT = batch.codes_BQT[torch.arange(n_rows, device=levels_B.device), levels_B]
        return cross_entropy(logits_BTV[mask_BT], targets_BT[mask_BT])

    def generate(self, batch: PromptedBatch, draws: RowDraws) -> tuple[Tensor, Tensor]:
        """All levels, from the recordings' level 0."""
        given = batch.conditions(self.network.config.prompt_levels)
        known_BT1, lengths = batch.codes_BQT[:, :1].transpose(1, 2), batch.lengths_B.tolist()
        sampling = TokenSampling(temperature=0.2)
        made_BTQ = generate_other_levels(self.network, given, known_BT1, lengths, sampling, draws)
        return made_BTQ, batch.lengths_B


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {
    "valle_ar": ValleARObjective,
    "valle_nar": ValleNARObjective,
}
