"""Sampling settings of a toktts system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from models.layers.checks import check_choice, check_positive
from models.sampling.autoregressive import LoopGuard
from models.sampling.beam import Beams
from models.sampling.token_sampling import TokenSampling
from models.toktts.patterns import Pattern
from models.toktts.sampling import Decoding, Ids


@dataclass(frozen=True)
class TokTTSOptions:
    """Options of choosing tokens, named as in transformers' `generate`, and a sentence's greatest length."""

    do_sample: bool = True
    """Draw tokens; otherwise the most likely ones are taken."""
    temperature: float = 1.0
    top_k: int = 50
    """Only the k most likely tokens can be drawn; 0: all."""
    top_p: float = 1.0
    num_beams: int = 1
    """Above 1: beam search, which draws its candidates if `do_sample`. Only for patterns of one stream."""
    length_penalty: float = 1.0
    """Of beams: a hypothesis scores sum(log p) / length ^ length_penalty."""
    max_s: float = 20.0
    """The longest speech; never more than the network has positions for."""
    max_length: int = 0
    """The longest speech in steps of the decoder, its start counted; 0: `max_s` alone decides."""
    loop_s: float = 4.0
    """Speech that repeats itself for so long is cut there, and its `finish_reason` is `loop`; 0: never. Beams are not
    watched."""
    loop_period_s: float = 1.0
    """The longest part whose repetition counts."""
    guidance: float = 0.0
    """Multiple of the difference to the logits without the text that is added to those with it (classifier-free
    guidance, arXiv 2306.05284); for networks that learned with `objective.textless`. 0: off, and half the work."""
    ids: Ids = "of_the_pattern"
    """`any` is the published way: every id can come at every step, and what is no frame is cut off."""

    def __post_init__(self) -> None:
        check_positive(self, ["num_beams"])
        for name in ("temperature", "max_s", "loop_period_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        check_choice(self, "ids", get_args(Ids))
        for name in ("max_length", "loop_s", "guidance"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        self._sampling()

    def decoding(self, pattern: Pattern, frame_rate: float) -> Decoding:
        """Settings of the loop's choice. ValueError for beams with a pattern of several streams."""
        if self.num_beams == 1:
            guard = self._guard(pattern, frame_rate)
            return Decoding(self._sampling(), ids=self.ids, guard=guard, guidance=self.guidance)
        if pattern.n_streams > 1:
            raise ValueError(
                f"num_beams is {self.num_beams}; the delay pattern has {pattern.n_streams} streams of tokens, "
                "and beam search needs one: num_beams must be 1"
            )
        beams = Beams(self.num_beams, self.length_penalty)
        return Decoding(self._sampling(), beams, self.ids, guidance=self.guidance)

    def max_frames(self, pattern: Pattern, frame_rate: float, most: int) -> int:
        """Frames of a sentence at the most, at least 1; `most` are those that the network takes."""
        frames = min(most, int(self.max_s * frame_rate))
        if self.max_length:
            frames = min(frames, (self.max_length - 1) // pattern.steps(1))
        return max(1, frames)

    def _sampling(self) -> TokenSampling | None:
        return TokenSampling(self.temperature, self.top_k, self.top_p) if self.do_sample else None

    def _guard(self, pattern: Pattern, frame_rate: float) -> LoopGuard | None:
        if self.loop_s == 0:
            return None
        longest, period = (
            max(1, pattern.steps(round(seconds * frame_rate)))
            for seconds in (self.loop_s, self.loop_period_s)
        )
        return LoopGuard(max(longest, period), period)
