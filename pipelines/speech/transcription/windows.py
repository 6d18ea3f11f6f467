"""Long waves as windows that a model can hear, cut where it is quietest."""

from __future__ import annotations

import math

import numpy as np

from pipelines.audio.containers import Samples
from pipelines.audio.lengths import seconds_to_samples

AIM_S = 25.0
"""Aimed length as a share of a 30 s window: what is left gives every cut 5 s to look for a pause on either side."""
SEARCH_S = 5.0
PAUSE_S = 0.2
STEP_S = 0.01


def windows_of(wave: Samples, sample_rate: int, window_s: float) -> list[Samples]:
    """Views of (T,) that follow each other, none longer than `window_s`; the wave itself if it fits."""
    window = seconds_to_samples(window_s, sample_rate)
    if len(wave) <= window:
        return [wave]
    count = math.ceil(len(wave) / seconds_to_samples(AIM_S * window_s / 30.0, sample_rate))
    reach = seconds_to_samples(SEARCH_S * window_s / 30.0, sample_rate)
    found = []
    for left in range(count, 1, -1):
        aim = len(wave) // left
        lowest = max(len(wave) - (left - 1) * window, aim - reach, 1)
        highest = min(window, aim + reach)
        at = lowest + _quietest(wave[lowest:highest], sample_rate)
        found.append(wave[:at])
        wave = wave[at:]
    return [*found, wave]


def _quietest(wave: Samples, sample_rate: int) -> int:
    """The middle of the PAUSE_S of least energy."""
    step = max(1, seconds_to_samples(STEP_S, sample_rate))
    width = min(round(PAUSE_S / STEP_S), len(wave) // step)
    if width < 1:
        return len(wave) // 2
    blocks = wave[: len(wave) // step * step].reshape(-1, step)
    total = np.concatenate([[0.0], np.cumsum(np.square(blocks, dtype=np.float64).sum(axis=1))])
    return (int(np.argmin(total[width:] - total[:-width])) + width // 2) * step
