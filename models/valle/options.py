"""Sampling settings of a VALL-E system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from models.layers.checks import check_choice
from models.sampling.autoregressive import Limits, LoopGuard, Sampler, Search
from models.sampling.beam import Beams, BeamSearch
from models.sampling.draws import Draws
from models.sampling.token_sampling import TokenSampling
from models.tasks import SPEAK, TASK_TOKENS, check_tokens

Step = Literal["eager", "compiled"]
Prompts = Literal["optional", "required"]
PromptUse = Literal["voice", "continue"]


@dataclass(frozen=True)
class ValleOptions:
    """Options from text to codes; the temperatures are those that the published users' page advises."""

    ar_temp: float = 0.95
    """Of the first level; 0 takes the most likely token."""
    nar_temp: float = 0.2
    """Of the other levels."""
    max_ar_steps: int = 1000
    """Frames of one sentence at the most."""
    frames_per_token: float = 0.0
    """Mean of the training rows; an assembled system has its dataset's. 0: not known."""
    max_length_ratio: float = 8.0
    """A sentence without a given length ends at this many times `frames_per_token` for each of its tokens."""
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    repetition_window: int = 0
    aware_window: int = 0
    """Above 0: repetition-aware sampling of VALL-E 2."""
    aware_threshold: float = 0.1
    beams: int = 1
    """Above 1: beam search, which draws its candidates unless `ar_temp` is 0."""
    length_penalty: float = 1.0
    """Of beam search."""
    loop_guard_s: float = 4.0
    """A sentence that repeats itself for so long is cut (`finish_reason: loop`); 0: never. Not with beam search."""
    step: Step = "eager"
    """`compiled` gives the step of the first network to torch.compile: its first batch takes long."""
    task: str = SPEAK
    """A speech task of `models.tasks` that the networks have learned; requests then have a `source`."""
    prompts: Prompts = "optional"
    prompt_use: PromptUse = "voice"
    """`voice` is published: the prompt stands before the codes, its words are not needed. `continue` also goes on
    behind it, its words before the text (the paper's way)."""
    max_prompt_s: float = 15.0
    max_text_tokens: int = 1024
    """Of one sentence, with its prompt's text where that is used."""

    def __post_init__(self) -> None:
        positive = ("max_ar_steps", "max_length_ratio", "beams", "max_prompt_s", "max_text_tokens")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("ar_temp", "nar_temp", "frames_per_token", "loop_guard_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        check_tokens(self.task, len(TASK_TOKENS))
        if self.task != SPEAK and self.prompt_use == "continue":
            raise ValueError(
                f"prompt_use is 'continue' with the task {self.task}; a task's prompt is no beginning"
            )
        for name, kind in (("step", Step), ("prompts", Prompts), ("prompt_use", PromptUse)):
            check_choice(self, name, get_args(kind))
        if self.beams > 1 and self.tokens().window != 0:
            raise ValueError("beams is above 1; a beam search has no penalties for repetition")
        self.levels()

    def tokens(self) -> TokenSampling:
        """Settings of drawing tokens of the first level."""
        return TokenSampling(
            self.ar_temp,
            self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            self.repetition_window,
            self.aware_window,
            self.aware_threshold,
        )

    def levels(self) -> TokenSampling:
        """Settings of drawing the other levels."""
        return TokenSampling(self.nar_temp)

    def frames(self, n_tokens: int) -> int:
        """The most frames of a sentence of so many tokens whose length is not given."""
        if not self.frames_per_token:
            return self.max_ar_steps
        return max(1, min(self.max_ar_steps, round(n_tokens * self.frames_per_token * self.max_length_ratio)))

    def search(self, stop: int, maximum: Sequence[int], frame_rate: float, draws: Draws) -> Search:
        """The search that picks the tokens of rows with at most `maximum` frames."""
        if self.beams > 1:
            drawn = (self.tokens(), draws) if self.ar_temp else (None, None)
            return BeamSearch(Beams(self.beams, self.length_penalty), Limits(stop, maximum), *drawn)
        period = max(1, round(frame_rate))
        guard = LoopGuard(max(period, round(self.loop_guard_s * frame_rate)), period)
        limits = Limits(stop, maximum, [1] * len(maximum), guard if self.loop_guard_s else None)
        return Sampler(self.tokens(), limits, draws)
