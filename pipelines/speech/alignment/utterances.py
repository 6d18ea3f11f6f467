"""Aligned words -> utterances: cuts at the ends of sentences and in pauses, chosen together for the whole segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.speech.alignment.interface import AlignedWord
from pipelines.speech.alignment.pauses import Levels, Pause
from pipelines.speech.alignment.text_units import Boundary, Word, boundary

_REACH_S = 0.7
"""Distance from an aligned sentence end within which its pause is sought (measured: docs/log.md)."""
_FOREIGN_S = 1.0
"""Speech between two words that neither covers: the transcript lacks something, so it must not be inside."""
_CLIPPED_S = 0.06
"""Sound inside a word that a cut beside it may leave out."""
_LONGEST_PAUSE_S = 3.0
_PENALTY = {Boundary.SENTENCE: 0.0, Boundary.CLAUSE: 1.0, Boundary.WORD: 3.0}
_NO_PAUSE_PENALTY, _FULL_PAUSE_S = 2.0, 0.3
_TOO_SHORT, _TOO_LONG = 100.0, 1000.0


@dataclass(frozen=True)
class Lengths:
    """Seconds: bounds of an utterance, the length to aim at, silence kept around it."""

    min_s: float
    max_s: float
    target_s: float
    pad_s: float


class Utterance(NamedTuple):
    """Words `first` to `stop` (exclusive), and the audio they are in, seconds."""

    first: int
    stop: int
    start_s: float
    end_s: float


class Gap(NamedTuple):
    """A place between two words: an utterance before it ends at `end_s`, one after it begins at `start_s`.

    `penalty` is what a cut costs there, in units of a whole target length; a cut is `forced` where audio without text
    or a long pause lies between.
    """

    end_s: float
    start_s: float
    penalty: float
    forced: bool


def utterances(
    words: Sequence[Word],
    aligned: Sequence[AlignedWord],
    levels: Levels,
    lengths: Lengths,
    within_s: tuple[float, float],
) -> list[Utterance]:
    """Utterances that hold all words in order, do not overlap, and are within the bounds wherever that is possible.

    `within_s` bounds the audio that may be used, seconds.
    """
    if not words:
        return []
    gaps = [_first(aligned[0], levels, lengths.pad_s, within_s[0])]
    gaps += [
        _gap(boundary(word), aligned[index], aligned[index + 1], levels, lengths.pad_s)
        for index, word in enumerate(words[:-1])
    ]
    gaps.append(_last(aligned[-1], levels, lengths.pad_s, within_s[1]))
    return divide(gaps, lengths)


def divide(gaps: Sequence[Gap], lengths: Lengths) -> list[Utterance]:
    """The cheapest division of the words between `gaps[0]` and `gaps[-1]`.

    An utterance costs the penalty of the gap where it ends and its relative distance from the target length; lengths
    out of bounds are taken only where nothing else is left.
    """
    best = [0.0] + [float("inf")] * (len(gaps) - 1)
    before = [0] * len(gaps)
    for stop in range(1, len(gaps)):
        for first in range(stop - 1, -1, -1):
            seconds = gaps[stop].end_s - gaps[first].start_s
            cost = best[first] + _length_cost(seconds, lengths) + gaps[stop].penalty
            if cost < best[stop]:
                best[stop], before[stop] = cost, first
            if gaps[first].forced or seconds > 2 * lengths.max_s:
                break
    found: list[Utterance] = []
    stop = len(gaps) - 1
    while stop > 0:
        first = before[stop]
        found.append(Utterance(first, stop, gaps[first].start_s, max(gaps[stop].end_s, gaps[first].start_s)))
        stop = first
    return found[::-1]


def _length_cost(seconds: float, lengths: Lengths) -> float:
    off = abs(seconds - lengths.target_s) / lengths.target_s
    if seconds < lengths.min_s:
        return _TOO_SHORT + off
    return _TOO_LONG + off if seconds > lengths.max_s else off


def _gap(kind: Boundary, left: AlignedWord, right: AlignedWord, levels: Levels, pad_s: float) -> Gap:
    middle_left, middle_right = (left.start_s + left.end_s) / 2, (right.start_s + right.end_s) / 2
    low, high = middle_left, middle_right
    if kind is not Boundary.WORD:
        low, high = min(low, left.end_s - _REACH_S), max(high, right.start_s + _REACH_S)
    low = max(low, left.start_s - _REACH_S)
    if right.start_s - left.end_s > 2 * _REACH_S:
        before = levels.pause(left.end_s, low, left.end_s + _REACH_S)
        after = levels.pause(right.start_s, right.start_s - _REACH_S, high)
    else:
        before = after = levels.pause((left.end_s + right.start_s) / 2, low, high)
    whole = Pause(before.start_s, max(after.end_s, before.start_s))
    foreign = levels.loud_s(before.end_s, after.start_s)
    penalty = _PENALTY[kind] + _NO_PAUSE_PENALTY * (1 - min(before.length_s, _FULL_PAUSE_S) / _FULL_PAUSE_S)
    return Gap(
        *_padded(whole, pad_s), penalty, forced=foreign > _FOREIGN_S or whole.length_s > _LONGEST_PAUSE_S
    )


def _first(word: AlignedWord, levels: Levels, pad_s: float, low_s: float) -> Gap:
    """Before the first word: not in the pause that may follow it, nor in sound where the recording begins with it."""
    begin, low = word.start_s, word.start_s - _REACH_S
    pause = levels.pause(begin, low, min(begin + _REACH_S, (begin + word.end_s) / 2))
    if levels.loud_s(begin, pause.start_s) > _CLIPPED_S:
        pause = levels.pause(begin, low, begin)
    start = max(low_s, pause.end_s - min(pad_s, pause.length_s))
    if not pause.length_s and low <= low_s:
        start = low_s
    return Gap(start, start, 0.0, forced=False)


def _last(word: AlignedWord, levels: Levels, pad_s: float, high_s: float) -> Gap:
    """After the last word, as `_first` is before the first."""
    end, high = word.end_s, word.end_s + _REACH_S
    pause = levels.pause(end, max(end - _REACH_S, (word.start_s + end) / 2), high)
    if levels.loud_s(pause.end_s, end) > _CLIPPED_S:
        pause = levels.pause(end, end, high)
    stop = min(high_s, pause.start_s + min(pad_s, pause.length_s))
    if not pause.length_s and high >= high_s:
        stop = high_s
    return Gap(stop, stop, 0.0, forced=False)


def _padded(pause: Pause, pad_s: float) -> tuple[float, float]:
    pad = min(pad_s, pause.length_s / 2)
    return pause.start_s + pad, pause.end_s - pad
