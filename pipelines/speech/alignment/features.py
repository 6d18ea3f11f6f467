"""Speech as cepstra for comparing what two voices say.

13 mel cepstra with two widths of differences, each normalised by its own mean and spread over the loud frames: that
takes out most of what differs between a recording and a synthetic voice.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples
from pipelines.speech.alignment.interface import SAMPLE_RATE

FloatArray = npt.NDArray[np.float32]

FRAME_RATE = 25
"""Frames of cepstra a second."""
LEVEL_RATE = 50
"""Frames of mel power a second."""
_HOP, _WINDOW, _BLOCK = SAMPLE_RATE // LEVEL_RATE, 512, 4096
_MELS, _CEPSTRA = 40, 13
_FLOOR_DB = -50.0
"""Relative to the loud frames; quieter frames (room noise) are all alike."""
_LOUD_DB = -30.0
_DIFFERENCES, _DIFFERENCE_WEIGHT = (3, 6), 0.7
"""Frames on each side at LEVEL_RATE; both together separated right from wrong text best (kathleen_en, kerstin_de)."""


def features(samples: Samples) -> FloatArray:
    """Cepstra (T, 39) at FRAME_RATE of a wave at SAMPLE_RATE. Memory besides the wave: about 2 MB per minute."""
    return cepstra(mel_power(samples))


def average(frames: FloatArray, size: int) -> FloatArray:
    """Means of `size` consecutive frames; what is left at the end is averaged too."""
    edges = np.arange(0, len(frames), size)
    counts = np.diff(np.append(edges, len(frames)))[:, None]
    return (np.add.reduceat(frames, edges, axis=0) / counts).astype(np.float32)


def mel_power(samples: Samples) -> FloatArray:
    """Power in mel bands (frames, 40) at LEVEL_RATE: a frame for every whole or partial hop, centred on its start."""
    from scipy.fft import rfft

    taper, filters = np.hanning(_WINDOW).astype(np.float32), _mel_filters()
    blocks = []
    for start in range(0, len(samples), _BLOCK * _HOP):
        stop = min(len(samples), start + _BLOCK * _HOP)
        begin, end = start - _WINDOW // 2, stop + _WINDOW
        part = np.pad(samples[max(0, begin) : end], (max(0, -begin), max(0, end - len(samples))))
        frames = np.lib.stride_tricks.sliding_window_view(part, _WINDOW)[::_HOP][: -(-(stop - start) // _HOP)]
        blocks.append((np.square(np.abs(rfft(frames * taper, axis=1))) @ filters).astype(np.float32))
    return np.concatenate(blocks) if blocks else np.zeros((0, _MELS), np.float32)


def cepstra(mel: FloatArray) -> FloatArray:
    """Normalised cepstra and their differences (T, 39) at FRAME_RATE, of power in mel bands at LEVEL_RATE."""
    from scipy.fft import dct

    power = mel.sum(axis=1)
    loud = float(np.percentile(power, 95)) + 1e-12
    floor = loud / _MELS * 10 ** (_FLOOR_DB / 10)
    plain = dct(np.log(mel + np.float32(floor)), type=2, axis=1, norm="ortho")[:, :_CEPSTRA]
    audible = power > loud * 10 ** (_LOUD_DB / 10)
    heard = plain[audible] if audible.any() else plain
    plain = (plain - heard.mean(axis=0)) / (heard.std(axis=0) + 1e-3)
    columns = [plain]
    for reach in _DIFFERENCES:
        padded = np.pad(plain, ((reach, reach), (0, 0)), mode="edge")
        change = padded[2 * reach :] - padded[: -2 * reach]
        columns.append(_DIFFERENCE_WEIGHT * change / (change.std(axis=0) + 1e-3))
    joined = np.concatenate(columns, axis=1).astype(np.float32)
    return average(joined, LEVEL_RATE // FRAME_RATE)


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
