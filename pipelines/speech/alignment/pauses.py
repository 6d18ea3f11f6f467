"""Pauses of a recording, so that cuts do not fall into speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples
from pipelines.speech.alignment.interface import SAMPLE_RATE

RATE = 50
"""Levels a second."""
_HOP = SAMPLE_RATE // RATE
_BLOCK = 1 << 16
_QUIET_DB, _ABOVE_NOISE_DB, _LEAST_DB = 30.0, 6.0, 12.0
"""Quiet is 30 dB below the loud parts, or 6 dB above the quietest ones, but at least 12 dB below the loud parts."""
_SMOOTH = 10
_DISTANCE_DB = 10.0
"""Difference by which a place at the end of the search range must be quieter than one in the middle."""


class Pause(NamedTuple):
    """A quiet segment, seconds. `start_s == end_s` where it is never quiet: the best place to cut all the same."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Seconds."""
        return self.end_s - self.start_s


@dataclass(frozen=True)
class Levels:
    """Levels `db` (T,) at RATE, and below which level (dB) it is quiet."""

    db: npt.NDArray[np.float32]
    quiet_db: float
    smooth_db: npt.NDArray[np.float32]

    @classmethod
    def of(cls, samples: Samples) -> Levels:
        """Levels of a wave (T,) at SAMPLE_RATE, at least one."""
        whole = samples if len(samples) >= _HOP else np.pad(samples, (0, _HOP - len(samples)))
        frames = whole[: len(whole) // _HOP * _HOP].reshape(-1, _HOP)
        power = [
            np.square(frames[start : start + _BLOCK], dtype=np.float32).mean(axis=1)
            for start in range(0, len(frames), _BLOCK)
        ]
        db = 10 * np.log10(np.concatenate(power) + 1e-10)
        loud, noise = np.percentile(db, [95, 5])
        quiet = min(max(loud - _QUIET_DB, noise + _ABOVE_NOISE_DB), loud - _LEAST_DB)
        padded = np.pad(np.maximum(db, quiet - 20), (_SMOOTH // 2, _SMOOTH - 1 - _SMOOTH // 2), mode="edge")
        smooth = np.convolve(padded, np.full(_SMOOTH, 1 / _SMOOTH), mode="valid")
        return cls(db.astype(np.float32), float(quiet), smooth.astype(np.float32))

    def pause(self, near_s: float, low_s: float, high_s: float) -> Pause:
        """The pause within `low_s` to `high_s` that is quietest, near ones preferred."""
        last = len(self.db) - 1
        low = min(max(0, round(low_s * RATE)), last)
        high = min(max(low, round(high_s * RATE)), last)
        frames = np.arange(low, high + 1)
        reach = max(1.0, max(near_s - low_s, high_s - near_s) * RATE)
        cost = self.smooth_db[low : high + 1] + _DISTANCE_DB * np.abs(frames - near_s * RATE) / reach
        best = start = end = low + int(cost.argmin())
        if self.db[best] >= self.quiet_db:
            return Pause(best / RATE, best / RATE)
        while start > low and self.db[start - 1] < self.quiet_db:
            start -= 1
        while end < high and self.db[end + 1] < self.quiet_db:
            end += 1
        return Pause(start / RATE, (end + 1) / RATE)

    def loud_s(self, start_s: float, end_s: float) -> float:
        """Seconds that are not quiet between two times."""
        part = self.db[max(0, round(start_s * RATE)) : max(0, round(end_s * RATE))]
        return float(np.count_nonzero(part >= self.quiet_db)) / RATE
