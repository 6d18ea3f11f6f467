"""Sampling settings of MaskGCT's stages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from models.cascade import Presets
from models.checkpoints import Json
from models.content import RecordingLimits
from models.layers.checks import check_choice, check_positive, check_steps
from models.sampling.guidance import Guidance
from models.sampling.masked import TokenChoice

LengthBy = Literal["bytes", "tokens"]


@dataclass(frozen=True)
class TextOptions:
    """Options from text to the codes of codebook 0; the sampling defaults are those of the published example."""

    frames_per_token: float = 8.0
    """Length of a sentence without a prompt: published are 8 to 16; an assembled system has its dataset's."""
    frames_per_word: float = 0.0
    """Added for each word (between spaces), whatever its tokens; an assembled system has its dataset's."""
    frames_per_sentence: float = 0.0
    """Added once; an assembled system has its dataset's."""
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
    length_by: LengthBy = "bytes"
    """With a voice prompt a sentence is as much longer than it as it has more bytes of text, or text tokens."""

    def __post_init__(self) -> None:
        for name in ("speed", "t2s_steps", "max_prompt_s", "max_text_tokens", "max_frames"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        check_steps("t2s_steps", self.t2s_steps)
        for name in ("frames_per_word", "frames_per_sentence"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not (self.frames_per_token > 0 or (self.frames_per_token == 0 and self.frames_per_word > 0)):
            raise ValueError(f"frames_per_token is {self.frames_per_token}; it must be above 0")
        if self.no_prompt not in ("none", "pad_frame"):
            raise ValueError(f"no_prompt is {self.no_prompt!r}; it must be 'none' or 'pad_frame'")
        check_choice(self, "length_by", get_args(LengthBy))
        self.choice()
        self.guide()

    def choice(self) -> TokenChoice:
        """Settings of drawing codes."""
        return TokenChoice(self.temperature, self.filter_threshold)

    def guide(self) -> Guidance:
        """Settings of the guidance."""
        return Guidance(self.guidance, self.rescale)


@dataclass(frozen=True)
class SemanticTextOptions(TextOptions):
    """Options from text to semantic tokens; the sampling defaults are those of amphion/MaskGCT."""

    frames_per_token: float = 4.0
    """Length of a sentence without a prompt; an assembled system has its dataset's."""
    t2s_steps: int = 25
    temperature: float = 0.9
    guidance: float = 2.5
    rescale: float = 0.75
    length_by: LengthBy = "tokens"


@dataclass(frozen=True)
class MaskGCTOptions(TextOptions):
    """The same with the steps of the finer codebooks."""

    s2a_steps: tuple[int, ...] = (20, 10, 1)
    """Steps of each codebook, the last one for all that follow; the entry of codebook 0 is not used."""
    s2a_guidance: float | None = None
    """Guidance of the finer codebooks; None: as that of codebook 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self.s2a_steps)
        self.guide_s2a()

    def guide_s2a(self) -> Guidance:
        """Settings of the guidance of the finer codebooks."""
        return Guidance(self.guidance if self.s2a_guidance is None else self.s2a_guidance, self.rescale)

    def steps_of(self, n_codebooks: int) -> list[int]:
        """Steps of every codebook."""
        return _steps_of(self.s2a_steps, n_codebooks)

    def text(self) -> TextOptions:
        """Those of the first stage."""
        names = [field.name for field in dataclasses.fields(TextOptions)]
        return TextOptions(**{name: getattr(self, name) for name in names})


PRESETS: Mapping[str, Mapping[str, Json]] = {
    "best": {"t2s_steps": 50, "guidance": 1.0, "s2a_steps": (20, 10, 1), "s2a_guidance": None},
    "fast": {"t2s_steps": 8, "guidance": 1.0, "s2a_steps": (8, 4, 1), "s2a_guidance": 0.0},
}
"""Sets of options by name, of MaskGCTOptions: `best` is the published schedule and the default."""


@dataclass(frozen=True)
class SemanticS2AOptions(RecordingLimits):
    """Options from semantic tokens to codes; the sampling defaults are those of amphion/MaskGCT."""

    first_steps: int = 25
    """Of codebook 0, where a network of its own makes it."""
    first_guidance: float = 2.5
    """Of the same; 0 switches it off, which is twice as fast."""
    s2a_steps: tuple[int, ...] = (25, 10, 1)
    """Steps of each codebook, the last one for all that follow; codebook 0 has its entry where no other network makes
    it."""
    temperature: float = 1.5
    filter_threshold: float = 0.98
    guidance: float = 2.5
    rescale: float = 0.75
    voice_s: float = 0.0
    """Only so much of a reference's beginning is used, and not more than the length of what is made; 0: all of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["first_steps"])
        check_steps("first_steps", self.first_steps)
        _check_steps(self.s2a_steps)
        if not self.voice_s >= 0:
            raise ValueError(f"voice_s is {self.voice_s}; it must not be negative")
        self.choice()
        self.guide()
        self.guide_first()

    def choice(self) -> TokenChoice:
        """Settings of drawing codes."""
        return TokenChoice(self.temperature, self.filter_threshold)

    def guide(self) -> Guidance:
        """Settings of the guidance."""
        return Guidance(self.guidance, self.rescale)

    def guide_first(self) -> Guidance:
        """Its settings for the network of codebook 0."""
        return Guidance(self.first_guidance, self.rescale)

    def steps_of(self, n_codebooks: int) -> list[int]:
        """Steps of every codebook."""
        return _steps_of(self.s2a_steps, n_codebooks)


SEMANTIC_PRESETS: Presets = {
    "best": {"first_steps": 25, "s2a_steps": (25, 10, 1), "guidance": 2.5},
    "fast": {"first_steps": 8, "s2a_steps": (8, 1), "guidance": 2.5, "text": {"t2s_steps": 8}},
}
"""Sets of options by name, of SemanticS2AOptions and the text stage before it: `best` is the default."""


def _check_steps(steps: tuple[int, ...]) -> None:
    if not steps or min(steps) < 1:
        raise ValueError(f"s2a_steps is {list(steps)}; it needs at least one entry, each at least 1")
    check_steps("s2a_steps", *steps)


def _steps_of(steps: tuple[int, ...], n_codebooks: int) -> list[int]:
    given = list(steps[:n_codebooks])
    return given + [given[-1]] * (n_codebooks - len(given))
