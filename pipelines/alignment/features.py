"""Speech as cepstra for comparing what two voices say, and as levels for finding pauses.

13 mel cepstra with two widths of differences, each normalised by its own mean and spread over the loud frames: that
takes out most of what differs between a recording and a synthetic voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.alignment.interface import SAMPLE_RATE
from pipelines.audio import Samples

FloatArray = npt.NDArray[np.float32]

FRAME_RATE = 25
"""Frames of cepstra a second."""
LEVEL_RATE = 50
"""Levels a second."""
_HOP, _WINDOW, _BLOCK = SAMPLE_RATE // LEVEL_RATE, 512, 4096
_MELS, _CEPSTRA = 40, 13
_FLOOR_DB = -50.0
"""Relative to the loud frames; what is quieter (room noise) looks all the same."""
_LOUD_DB = -30.0
_DIFFERENCES, _DIFFERENCE_WEIGHT = (3, 6), 0.7
"""Frames on each side at LEVEL_RATE. On kathleen_en and kerstin_de, both together told right from wrong text best."""


@dataclass(frozen=True)
class Features:
    """`cepstra` (T, 39) at FRAME_RATE, `level_db` (2T or 2T + 1,) at LEVEL_RATE, `loud_db` the level of loud frames."""

    cepstra: FloatArray
    level_db: FloatArray
    loud_db: float


def features(samples: Samples) -> Features:
    """Features of a wave (T,) at 16 kHz. Memory: about 4 MB a minute."""
    mel = _mel_power(samples)
    power = mel.sum(axis=1)
    loud = float(np.percentile(power, 95)) + 1e-12
    level_db = 10 * np.log10(power + 1e-12)
    return Features(_cepstra(mel, power, loud), level_db, 10 * float(np.log10(loud)))


def average_pairs(frames: FloatArray, size: int) -> FloatArray:
    """Means of `size` consecutive frames; what is left at the end is averaged too."""
    edges = np.arange(0, len(frames), size)
    counts = np.diff(np.append(edges, len(frames)))[:, None]
    return (np.add.reduceat(frames, edges, axis=0) / counts).astype(np.float32)


def _mel_power(samples: Samples) -> FloatArray:
    from scipy.fft import rfft

    padded = np.pad(samples, (_WINDOW // 2, _WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP][: len(samples) // _HOP + 1]
    taper, filters = np.hanning(_WINDOW).astype(np.float32), _mel_filters()
    blocks = [
        np.square(np.abs(rfft(frames[start : start + _BLOCK] * taper, axis=1))) @ filters
        for start in range(0, len(frames), _BLOCK)
    ]
    return np.concatenate(blocks).astype(np.float32)


def _cepstra(mel: FloatArray, power: FloatArray, loud: float) -> FloatArray:
    from scipy.fft import dct

    floor = loud / _MELS * 10 ** (_FLOOR_DB / 10)
    cepstra = dct(np.log(mel + floor), type=2, axis=1, norm="ortho")[:, :_CEPSTRA]
    audible = power > loud * 10 ** (_LOUD_DB / 10)
    heard = cepstra[audible] if audible.any() else cepstra
    cepstra = (cepstra - heard.mean(axis=0)) / (heard.std(axis=0) + 1e-3)
    columns = [cepstra]
    for reach in _DIFFERENCES:
        padded = np.pad(cepstra, ((reach, reach), (0, 0)), mode="edge")
        change = padded[2 * reach :] - padded[: -2 * reach]
        columns.append(_DIFFERENCE_WEIGHT * change / (change.std(axis=0) + 1e-3))
    joined = np.concatenate(columns, axis=1).astype(np.float32)
    return average_pairs(joined, LEVEL_RATE // FRAME_RATE)


def _mel_filters(low_hz: float = 60.0, high_hz: float = 7600.0) -> FloatArray:
    """Triangles (257, 40) on the mel scale of O'Shaughnessy (2595 log10(1 + f / 700))."""
    bins = np.linspace(0, SAMPLE_RATE / 2, _WINDOW // 2 + 1)
    low, high = (2595 * np.log10(1 + hertz / 700) for hertz in (low_hz, high_hz))
    mel_edges = np.linspace(low, high, _MELS + 2)
    edges = 700 * (10 ** (mel_edges / 2595) - 1)
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    filters: FloatArray = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return filters
