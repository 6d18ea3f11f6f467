"""The interface of alignment engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipelines.audio.containers import Samples
from pipelines.speech.alignment.text_units import Word

SAMPLE_RATE = 16_000
"""Hz: what engines listen to."""


class AlignedWord(NamedTuple):
    """Position of a spoken word, seconds from the start of the audio, and how sure that is (scale of the engine)."""

    start_s: float
    end_s: float
    score: float


class AlignmentError(Exception):
    """A transcript that cannot be aligned at all; the message is for the row's `detail`."""


class Aligner(Protocol):
    """Places words in audio. Results depend on nothing but the arguments."""

    @property
    def min_score(self) -> float:
        """Mean score of a phrase below which its words are more likely not spoken there than spoken."""
        ...

    def align(self, samples: Samples, words: Sequence[Word], language: str | None) -> list[AlignedWord]:
        """One entry a word, in order, starts never decreasing. `samples` (T,) at `SAMPLE_RATE`.

        Raises AlignmentError when the text cannot be that of the audio, or the language is not known.
        """
        ...
