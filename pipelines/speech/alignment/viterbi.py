"""The most likely way through a transcript's tokens, given what a CTC model hears in each frame.

States alternate as in Graves et al. 2006: blank, token, blank, token, ..., blank. For hours of audio only a band of
states is followed; it moves along with the best one. As in `dtw`, the totals at the start of each block of frames are
kept, and the way back computes one block again at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ANY = -1
"""A token that stands for whatever is said: numerals, letters that the model does not know."""
_IMPOSSIBLE = -1e30
_BLOCK = 1500
"""Frames; 30 s at the usual 20 ms."""


@dataclass(frozen=True)
class Transcript:
    """`tokens` (L,), columns of the emissions or ANY; `open` (L + 1,) marks the places before, between and after them
    where speech may lie that the transcript lacks."""

    tokens: Integers
    open: npt.NDArray[np.bool_]

    @property
    def n_states(self) -> int:
        """Blanks and tokens."""
        return 2 * len(self.tokens) + 1


def best_states(
    emissions: npt.NDArray[np.floating],
    loudest: FloatArray,
    transcript: Transcript,
    blank: int,
    *,
    width: int = 16_000,
    foreign_cost: float = 1.0,
) -> Integers | None:
    """The state of each frame (T,): never decreasing, 2 i + 1 where token i is said; None if it does not fit.

    `emissions` (T, V) are log-probabilities, `loudest` (T,) the highest of each frame. `width` states are followed at
    a time: 16,000 are about eight minutes of text. A frame of foreign speech in an open place, or of ANY, costs
    `foreign_cost` nats.
    """
    lattice = _Lattice(emissions, loudest, transcript, blank, min(width, transcript.n_states), foreign_cost)
    frames = len(emissions)
    lows, totals = [0], [lattice.entry()]
    last = np.zeros((0, 0), np.int8)
    for start in range(0, frames, _BLOCK):
        end, last = lattice.run(start, min(start + _BLOCK, frames), lows[-1], totals[-1])
        low = lattice.follow(lows[-1], end)
        totals.append(_moved(end, low - lows[-1]))
        lows.append(low)
    return _trace(lattice, lows, totals, last, frames)


@dataclass(frozen=True)
class _Lattice:
    emissions: npt.NDArray[np.floating]
    loudest: FloatArray
    transcript: Transcript
    blank: int
    width: int
    foreign_cost: float

    def entry(self) -> FloatArray:
        """Totals before the first frame: as if in the first blank, so that the first token may come at once."""
        totals = np.full(self.width, _IMPOSSIBLE, np.float32)
        totals[0] = 0.0
        return totals

    def follow(self, low: int, totals: FloatArray) -> int:
        """Next position of the band: the best state in its middle, never backwards."""
        wanted = low + int(totals.argmax()) - self.width // 2
        return max(low, min(wanted, self.transcript.n_states - self.width))

    def run(
        self, start: int, stop: int, low: int, totals: FloatArray
    ) -> tuple[FloatArray, npt.NDArray[np.int8]]:
        """Totals after frame `stop - 1`, and for each frame and state how many states back it came from."""
        columns, any_token, foreign, may_skip = self._states(low)
        came = np.zeros((stop - start, self.width), np.int8)
        for frame in range(start, stop):
            heard = self.emissions[frame, columns].astype(np.float32)
            heard[any_token] = self.loudest[frame] - self.foreign_cost
            heard[foreign] = np.maximum(heard[foreign], self.loudest[frame] - self.foreign_cost)
            best, step = totals.copy(), came[frame - start]
            one = totals[:-1] > best[1:]
            best[1:][one], step[1:][one] = totals[:-1][one], 1
            two = (totals[:-2] > best[2:]) & may_skip[2:]
            best[2:][two], step[2:][two] = totals[:-2][two], 2
            totals = best + heard
        return totals, came

    def _states(
        self, low: int
    ) -> tuple[Integers, npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Column in the emissions of the band's states; which are ANY, which are open, which may be skipped to."""
        states = np.arange(low, low + self.width)
        is_token, token = states % 2 == 1, states // 2
        tokens = np.append(self.transcript.tokens, self.blank)
        own = tokens[token]
        columns = np.where(is_token & (own != ANY), own, self.blank)
        before = tokens[np.maximum(token - 1, 0)]
        foreign = ~is_token & self.transcript.open[token]
        may_skip = is_token & (token > 0) & ((own != before) | (own == ANY))
        return columns, is_token & (own == ANY), foreign, may_skip


def _moved(totals: FloatArray, shift: int) -> FloatArray:
    if not shift:
        return totals
    moved = np.full(len(totals), _IMPOSSIBLE, np.float32)
    moved[: len(totals) - shift] = totals[shift:]
    return moved


def _trace(
    lattice: _Lattice, lows: list[int], totals: list[FloatArray], last: npt.NDArray[np.int8], frames: int
) -> Integers | None:
    final = lattice.transcript.n_states - 1 - lows[-1]
    if final >= lattice.width:
        return None
    ends = totals[-1][max(0, final - 1) : final + 1]
    if ends.max() <= _IMPOSSIBLE / 2:
        return None
    state = lows[-1] + max(0, final - 1) + int(ends.argmax())
    states: Integers = np.empty(frames, np.int64)
    for block in reversed(range(len(lows) - 1)):
        start = block * _BLOCK
        stop = min(start + _BLOCK, frames)
        came = last if stop == frames else lattice.run(start, stop, lows[block], totals[block])[1]
        for frame in reversed(range(start, stop)):
            states[frame] = state
            state -= int(came[frame - start, state - lows[block]])
    return states
