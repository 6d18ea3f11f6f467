"""The interface of transcription engines, and the settings that all of them share."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pipelines.audio.containers import Samples

SAMPLE_RATE = 16_000
"""Hz, what every engine hears."""
WINDOW_S = 30.0
"""The most that one call hears of one wave: Whisper's window (Radford et al. 2022, section 2.2)."""
MOST_TOKENS = 224
"""Half of Whisper's text context, the most that its decoders write for one window."""


@dataclass(frozen=True)
class TranscribeSettings:
    """Settings of transcription.

    Decoding is at temperature 0: batched engines have no fallback to higher ones, so filter on `avg_logprob` and
    `compression_ratio` instead.
    """

    model: str
    """A directory, or a name on the hub. WhisperX reads CTranslate2 models, transformers its own."""
    engine: Literal["whisperx", "transformers"] = "whisperx"
    which: Literal["missing", "all"] = "missing"
    """Rows to transcribe: those without a text, or all (their given text is replaced)."""
    language: str = ""
    """ISO 639-1 code of rows that do not say their language; empty: detect it, once per recording."""
    compute_type: str = "default"
    """`default` is float16 on a GPU and float32 on a CPU; int8 halves the time on a CPU and changes texts a little."""
    batch_size: int = 8
    """Windows in one call. Changes no text in float32."""
    beam_size: int = 5
    initial_prompt: str = ""
    """Text that the model takes as said before: names, spelling, style."""
    suppress_numerals: bool = False
    """Keep digits and currency signs out, so that numbers are spelled as they were spoken."""
    max_tokens: int = MOST_TOKENS
    """Tokens of one window; a text that reaches it is cut off there."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("transcribe.model is empty; it must be a directory or a name on the hub")
        for name, most in (("batch_size", 1024), ("beam_size", 100), ("max_tokens", MOST_TOKENS)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"transcribe.{name} is {value}, must be from 1 to {most}")

    @property
    def text_source(self) -> str:
        """`engine:model`, a directory by its last name."""
        folder = Path(self.model).expanduser()
        return f"{self.engine}:{folder.resolve().name if folder.is_dir() else self.model}"


@dataclass(frozen=True)
class Language:
    """The language that a model detected; `probability` among all that it knows, 0 to 1."""

    code: str
    probability: float


@dataclass(frozen=True)
class Transcript:
    """The text of one wave as the model spells it: with a leading space where the script has spaces."""

    text: str
    detected: Language | None
    """None where the language was given or the model knows only one."""
    logprob: float | None
    """Sum of the log-probabilities (natural) of all tokens, the end included; None where the model gives none."""
    tokens: int
    """Number of tokens that `logprob` is the sum of."""


class Transcriber(Protocol):
    """A loaded model. What it says of a wave does not depend on the others in the call."""

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes of the languages that can be given to it; empty for a model that takes none."""

    @property
    def detects(self) -> bool:
        """True if it can tell languages apart."""

    def detect(self, waves: Sequence[Samples]) -> list[Language]:
        """The language of each wave (T,) of at most WINDOW_S at SAMPLE_RATE; only where `detects`."""

    def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        """The text of each wave; None detects the language where the model can."""


def compression_ratio(text: str) -> float:
    """UTF-8 bytes over zlib-compressed bytes, as Whisper computes it; 0 for an empty text."""
    data = text.encode("utf-8")
    return len(data) / len(zlib.compress(data))


def language_code(given: str, known: frozenset[str]) -> str | None:
    """The code among `known` that a name such as `en`, `en-US`, `EN_us` or `English` stands for; None for none."""
    from whisperx.utils import TO_LANGUAGE_CODE

    word = given.strip().lower()
    for candidate in (word, TO_LANGUAGE_CODE.get(word), word.replace("_", "-").split("-")[0]):
        if candidate in known:
            return candidate
    return None
