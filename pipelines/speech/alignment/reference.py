"""A transcript spoken by espeak-ng, phrase by phrase, with the place of every word known."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from models.text.espeak import Espeak, EspeakError
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignmentError
from pipelines.speech.alignment.text_units import Word, join_words

_AUDIBLE = 0.003
_SHORTEST_S = 0.08


@dataclass(frozen=True)
class Spoken:
    """A phrase: `samples` (T,) at SAMPLE_RATE and, for each of its words, where it starts (seconds)."""

    samples: Samples
    starts_s: list[float]


class Speaker:
    """A fresh espeak-ng with the voice of a language, as a context manager.

    The samples therefore depend only on the texts that it spoke.
    """

    def __init__(self, language: str) -> None:
        self._espeak = Espeak()
        try:
            self._espeak.set_language(language)
        except EspeakError as error:
            self._espeak.close()
            raise AlignmentError(str(error)) from None

    def __enter__(self) -> Speaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._espeak.close()

    def say(self, words: Sequence[Word]) -> Spoken:
        """Speak a phrase. What has no sound (a lone dash) becomes a short silence; silence at the end is cut off."""
        text, rate = join_words(words), self._espeak.sample_rate
        pcm, events = self._espeak.say(text)
        wave = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)
        heard = np.flatnonzero(np.abs(wave) > _AUDIBLE)
        least = round(_SHORTEST_S * rate)
        wave = wave[: max(least, int(heard[-1]) + 1)] if len(heard) else np.zeros(least, np.float32)
        starts = _word_starts(words, text, events, len(wave) / rate)
        return Spoken(resample(wave, rate, SAMPLE_RATE), starts)


def _word_starts(
    words: Sequence[Word], text: str, events: list[tuple[int, float]], length_s: float
) -> list[float]:
    """Starts of the words; those that espeak-ng does not report lie between their neighbours by characters."""
    firsts, position = [], 0
    for index, word in enumerate(words):
        position += word.spaced and index > 0
        firsts.append(position)
        position += len(word.text)
    known = {0: 0.0, len(text): length_s}
    for character, seconds in events:
        first = firsts[max(0, bisect.bisect_right(firsts, character) - 1)]
        if first > 0 and first not in known and seconds < length_s:
            known[first] = seconds
    at = sorted(known)
    times = np.maximum.accumulate([known[character] for character in at])
    return [float(start) for start in np.interp(firsts, at, times)]
