"""Sampling settings of MaskGCT without semantic tokens."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice


@dataclass(frozen=True)
class TextOptions:
    """How text becomes the codes of codebook 0; the sampling defaults are those of the published example."""

    frames_per_token: float = 8.0
    """Length of a sentence without a prompt: published are 8 to 16; an assembled system has its dataset's mean."""
    speed: float = 1.0
    """Above 1 speaks faster. Not used with an explicit length."""
    t2s_steps: int = 50
    temperature: float = 0.5
    filter_threshold: float = 0.98
    guidance: float = 1.0
    """0 switches it off, which is twice as fast."""
    rescale: float = 1.0
    no_prompt: Literal["none", "pad_frame"] = "none"
    """`pad_frame` stands one frame of padding in for a missing prompt, the published way."""
    max_prompt_s: float = 30.0
    max_text_tokens: int = 4096
    """Of one sentence and its prompt's text."""
    max_frames: int = 4096
    """Of one sentence."""

    def __post_init__(self) -> None:
        positive = ("frames_per_token", "speed", "t2s_steps", "max_prompt_s", "max_text_tokens", "max_frames")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.no_prompt not in ("none", "pad_frame"):
            raise ValueError(f"no_prompt is {self.no_prompt!r}; it must be 'none' or 'pad_frame'")
        self.choice()
        self.guide()

    def choice(self) -> TokenChoice:
        """How codes are drawn."""
        return TokenChoice(self.temperature, self.filter_threshold)

    def guide(self) -> Guidance:
        """How guidance acts."""
        return Guidance(self.guidance, self.rescale)


@dataclass(frozen=True)
class MaskGCTOptions(TextOptions):
    """The same with the steps of the finer codebooks."""

    s2a_steps: tuple[int, ...] = (20, 10, 1)
    """Steps of each codebook, the last one for all that follow; the entry of codebook 0 is not used."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.s2a_steps or min(self.s2a_steps) < 1:
            raise ValueError(
                f"s2a_steps is {list(self.s2a_steps)}; it needs at least one entry, each at least 1"
            )

    def steps_of(self, n_codebooks: int) -> list[int]:
        """Steps of every codebook."""
        given = list(self.s2a_steps[:n_codebooks])
        return given + [given[-1]] * (n_codebooks - len(given))

    def text(self) -> TextOptions:
        """Those of the first stage."""
        names = [field.name for field in dataclasses.fields(TextOptions)]
        return TextOptions(**{name: getattr(self, name) for name in names})
