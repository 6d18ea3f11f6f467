"""Alignment without weights: espeak-ng speaks the transcript, and dynamic time warping maps that onto the recording.

The idea is that of aeneas (Alberto Pettarin, github.com/readbeyond/aeneas). Different here: a coarse path first, with
distances centred so that text that is not spoken and speech that is not in the text cost little and do not pull the
rest along; then a fine path around it; and a verdict for each phrase, against the same phrase played backwards, which
has the same sounds in the same voice and a wrong order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples
from pipelines.audio.lengths import seconds_to_samples
from pipelines.speech.alignment.dtw import Distances, Integers, band, band_along, warp
from pipelines.speech.alignment.features import FRAME_RATE, LEVEL_RATE, average, cepstra, features, mel_power
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignedWord, AlignmentError
from pipelines.speech.alignment.reference import Speaker
from pipelines.speech.alignment.text_units import Word, phrases

FloatArray = npt.NDArray[np.float32]

_PAUSE_S = 0.2
"""Silence between phrases of the reference."""
_COARSE = 5
"""Fine frames in a coarse one: 0.2 s."""
_BAND_S = 1200.0
"""Width of the coarse band."""
_MARGIN_S = 3.0
"""Of the fine band around the coarse path."""
_JUMP_S = 15.0
"""Text that the coarse path passes within one frame and that is therefore not spoken."""
_TEMPO = (0.2, 5.0)
"""Seconds of the recording for a second of espeak-ng: the widest that a transcript can be meant for a recording."""
_PHRASE_TEMPO = (0.4, 2.5)
"""The same for a phrase, relative to the median of the recording."""


class EspeakDtw:
    """Aligner `espeak-dtw`. `default_language` speaks for rows without a language."""

    min_score = 0.1
    """Keeps nearly all right phrases and a fifth of shuffled ones (docs/log.md), so the neighbours of a phrase are
    compared, too."""

    def __init__(self, default_language: str = "en") -> None:
        self._default_language = default_language

    def align(self, samples: Samples, words: Sequence[Word], language: str | None) -> list[AlignedWord]:
        """One entry a word. A word's score is that of its phrase: how much less (as a share) the phrase differs from
        the recording than its reversal does; about 0 for a wrong text, 0.1 to 0.25 for a right one.

        Raises AlignmentError for a language without a voice, and where text and audio cannot belong together.
        """
        if not words:
            raise AlignmentError("the transcript has no word")
        groups = phrases(words)
        reference = _speak(words, groups, language or self._default_language)
        tempo = len(samples) / SAMPLE_RATE / reference.length_s
        if not _TEMPO[0] <= tempo <= _TEMPO[1]:
            raise AlignmentError(
                f"the recording lasts {tempo:.2f} times as long as espeak-ng takes for its transcript; "
                f"allowed are {_TEMPO[0]:g} to {_TEMPO[1]:g} times"
            )
        heard, spoken = features(samples), reference.cepstra
        path = _path(heard, spoken)
        scores = _phrase_scores(heard, spoken, path, reference.phrase_s)
        starts, ends = _places(path, reference.starts_s), _places(path, reference.ends_s)
        of_word = np.repeat(scores, [len(group) for group in groups])
        ends = np.maximum(starts, ends)
        return [
            AlignedWord(*found)
            for found in zip(starts.tolist(), ends.tolist(), of_word.tolist(), strict=True)
        ]


@dataclass(frozen=True)
class _Reference:
    cepstra: FloatArray
    length_s: float
    starts_s: list[float]
    ends_s: list[float]
    phrase_s: list[tuple[float, float]]


def _speak(words: Sequence[Word], groups: Sequence[range], language: str) -> _Reference:
    """The transcript spoken, phrase by phrase; of the audio only the power in mel bands is kept."""
    pause = seconds_to_samples(_PAUSE_S, SAMPLE_RATE)
    parts = [mel_power(np.zeros(pause, np.float32))]
    now = _PAUSE_S
    starts: list[float] = []
    ends: list[float] = []
    spans: list[tuple[float, float]] = []
    with Speaker(language) as speaker:
        for group in groups:
            spoken = speaker.say(words[group.start : group.stop])
            length = len(spoken.samples) / SAMPLE_RATE
            begun = [now + start for start in spoken.starts_s]
            starts += begun
            ends += [*begun[1:], now + length]
            spans.append((now, now + length))
            # Whole frames, so that the power of phrases can be put together as if of one wave.
            padded = np.pad(spoken.samples, (0, pause + -len(spoken.samples) % (SAMPLE_RATE // LEVEL_RATE)))
            parts.append(mel_power(padded))
            now += len(padded) / SAMPLE_RATE
    return _Reference(cepstra(np.concatenate(parts)), now, starts, ends, spans)


def _path(heard: FloatArray, spoken: FloatArray) -> Integers:
    """For each frame heard, the first and last frame spoken that it is matched with (T, 2)."""
    rows, columns = average(heard, _COARSE), average(spoken, _COARSE)
    width = min(len(columns), round(_BAND_S * FRAME_RATE / _COARSE))
    coarse = warp(Distances.centred(rows, columns), band(len(rows), len(columns), width), width, 2.0)
    path: Integers = np.zeros((len(heard), 2), np.int64)
    for begin, end in _unbroken(coarse):
        rows_at = slice(begin * _COARSE, min(len(heard), end * _COARSE))
        low, high = int(coarse[begin, 0] if begin else 0), int(coarse[end - 1, 0])
        high = len(columns) - 1 if end == len(coarse) else high
        columns_at = slice(low * _COARSE, min(len(spoken), (high + 1) * _COARSE))
        part_rows, part_columns = heard[rows_at], spoken[columns_at]
        near = np.clip(coarse[begin:end], low, high) - low
        lows, width = band_along(
            near, _COARSE, len(part_rows), len(part_columns), round(_MARGIN_S * FRAME_RATE)
        )
        path[rows_at] = warp(Distances.plain(part_rows, part_columns), lows, width, 1.0) + columns_at.start
    return path


def _unbroken(coarse: Integers) -> list[tuple[int, int]]:
    """Segments of rows (begin, end) between rows that pass over a long piece of text."""
    passed = coarse[:, 1] - coarse[:, 0] > _JUMP_S * FRAME_RATE / _COARSE
    breaks = [0, *(np.flatnonzero(passed[:-1]) + 1).tolist(), len(coarse)]
    return [(begin, end) for begin, end in itertools.pairwise(breaks) if end > begin]


def _places(path: Integers, seconds: Sequence[float]) -> npt.NDArray[np.float64]:
    """Time in the recording that corresponds to a time in the reference, seconds."""
    columns = np.asarray(seconds) * FRAME_RATE
    first = np.searchsorted(path[:, 1], columns, side="left")
    return np.asarray(np.minimum(first, len(path)) / FRAME_RATE, np.float64)


def _phrase_scores(
    heard: FloatArray, spoken: FloatArray, path: Integers, spans: Sequence[tuple[float, float]]
) -> npt.NDArray[np.float64]:
    """Share by which a phrase differs less from the audio in its place than its reversal does."""
    columns = [(int(start * FRAME_RATE), int(np.ceil(end * FRAME_RATE))) for start, end in spans]
    rows = [
        (int(np.searchsorted(path[:, 1], low)), int(np.searchsorted(path[:, 0], high)))
        for low, high in columns
    ]
    tempos = np.array(
        [(end - start) / (high - low) for (start, end), (low, high) in zip(rows, columns, strict=True)]
    )
    usual = float(np.median(tempos))
    scores = np.zeros(len(spans))
    for index, ((start, end), (low, high)) in enumerate(zip(rows, columns, strict=True)):
        if _PHRASE_TEMPO[0] * usual <= tempos[index] <= _PHRASE_TEMPO[1] * usual:
            forward = _difference(heard[start:end], spoken[low:high])
            scores[index] = 1 - forward / _difference(heard[start:end], spoken[low:high][::-1])
    return scores


def _difference(rows: FloatArray, columns: FloatArray) -> float:
    """Mean distance along the best path between two pieces."""
    distances = Distances.plain(rows, np.ascontiguousarray(columns))
    path = warp(distances, np.zeros(len(rows), np.int64), len(columns), 1.0)
    means = [distances.row(row, first, last + 1).mean() for row, (first, last) in enumerate(path.tolist())]
    return float(np.mean(means)) + 1e-9
