"""A transcript spoken by espeak-ng, phrase by phrase, with the place of every word known."""

from __future__ import annotations

import _ctypes
import bisect
import ctypes
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignmentError
from pipelines.speech.alignment.text_units import Word, join_words

VOICES = {"en": "en-us", "zh": "cmn", "yue": "yue", "no": "nb", "jp": "ja"}
"""Languages that espeak-ng calls otherwise."""
_SYNCHRONOUS, _DO_NOT_EXIT, _UTF8 = 2, 0x8000, 1
_EVENT_END, _EVENT_WORD = 0, 1
_AUDIBLE = 0.003
_SHORTEST_S = 0.08


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Spoken:
    """A phrase: `samples` (T,) at SAMPLE_RATE and, for each of its words, where it starts (seconds)."""

    samples: Samples
    starts_s: list[float]


class Speaker:
    """espeak-ng with a voice, as a context manager.

    Loads a copy of the library of its own: espeak-ng keeps the phase of its oscillators from text to text, and with
    a fresh copy the samples depend on the texts spoken with it alone (initialising it again does not reset them).
    """

    def __init__(self, language: str) -> None:
        import espeakng_loader

        with tempfile.NamedTemporaryFile(suffix=".so") as copy:
            copy.write(Path(espeakng_loader.get_library_path()).read_bytes())
            copy.flush()
            self._library: Any = ctypes.CDLL(copy.name)
        data = str(espeakng_loader.get_data_path()).encode()
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DO_NOT_EXIT)
        if self._rate <= 0:
            raise OSError(f"espeak-ng did not start with its data in {data.decode()!r} (code {self._rate})")
        if not any(self._library.espeak_SetVoiceByName(name.encode()) == 0 for name in _voices(language)):
            self.__exit__(None, None, None)
            raise AlignmentError(f"espeak-ng has no voice for the language {language!r}")

    def __enter__(self) -> Speaker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()
        _ctypes.dlclose(self._library._handle)

    def say(self, words: Sequence[Word]) -> Spoken:
        """Speak a phrase. What has no sound (a lone dash) becomes a short silence; silence at the end is cut off."""
        text = join_words(words)
        pcm, events = self._synthesize(text)
        wave = np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768)
        heard = np.flatnonzero(np.abs(wave) > _AUDIBLE)
        least = round(_SHORTEST_S * self._rate)
        wave = wave[: max(least, int(heard[-1]) + 1)] if len(heard) else np.zeros(least, np.float32)
        starts = _word_starts(words, text, events, len(wave) / self._rate)
        return Spoken(resample(wave, self._rate, SAMPLE_RATE), starts)

    def _synthesize(self, text: str) -> tuple[bytes, list[tuple[int, float]]]:
        """PCM and (character, seconds) of the words that espeak-ng reports."""
        blocks: list[bytes] = []
        events: list[tuple[int, float]] = []

        def collect(samples: Any, count: int, told: Any) -> int:
            if count > 0:
                blocks.append(ctypes.string_at(samples, 2 * count))
            index = 0
            while told and told[index].type != _EVENT_END:
                if told[index].type == _EVENT_WORD:
                    events.append((told[index].text_position - 1, told[index].audio_position_ms / 1000))
                index += 1
            return 0

        callback = _CALLBACK(collect)
        self._library.espeak_SetSynthCallback(callback)
        encoded = text.encode("utf-8")
        self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return b"".join(blocks), events


def _voices(language: str) -> list[str]:
    code = language.lower().replace("_", "-")
    base = code.split("-")[0]
    return [VOICES.get(code, code), VOICES.get(base, base)]


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
