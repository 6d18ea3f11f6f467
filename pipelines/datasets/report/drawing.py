"""Pictures without a plotting library: histograms as SVG, spectrograms as PNG."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples
from pipelines.datasets.report.distribution import Distribution

_WIDTH, _HEIGHT = 320, 110
_FFT, _COLUMNS, _RANGE_DB = 512, 640, 80.0
# Black over violet and orange to pale yellow: rises evenly in lightness, so it reads in grey, too.
_COLOURS = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def histogram(distribution: Distribution, label: str) -> str:
    """An SVG of bars; `label` is what a screen reader says and must be escaped."""
    bars = distribution.bars()
    tallest = max(bar.count for bar in bars)
    wide = _WIDTH / len(bars)
    drawn = []
    for index, bar in enumerate(bars):
        height = bar.count / tallest * (_HEIGHT - 4)
        low = f"{number(bar.low)} to {number(bar.high)}"
        if index == 0 and distribution.least < bar.low:
            low = f"below {number(bar.high)}"
        elif index == len(bars) - 1 and distribution.most >= bar.high:
            low = f"{number(bar.low)} and above"
        drawn.append(
            f'<rect x="{index * wide + 0.5:.2f}" y="{_HEIGHT - height:.2f}" width="{max(wide - 1, 0.5):.2f}" '
            f'height="{height:.2f}" rx="1"><title>{low}: {bar.count:,}</title></rect>'
        )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 1}" role="img" aria-label="{label}">{"".join(drawn)}'
        f'<line x1="0" y1="{_HEIGHT + 0.5}" x2="{_WIDTH}" y2="{_HEIGHT + 0.5}"/></svg>'
    )


def spectrogram(samples: Samples) -> bytes:
    """A PNG of at most 640 x 257 pixels: time to the right, 0 Hz at the bottom, 80 dB below the loudest is black."""
    padded = np.pad(samples, (0, max(0, _FFT - len(samples))))
    hop = max(1, -(-(len(padded) - _FFT) // _COLUMNS)) if len(padded) > _FFT else 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, _FFT)[::hop][:_COLUMNS]
    power = np.abs(np.fft.rfft(windows * np.hanning(_FFT), axis=1)) ** 2
    level_db = 10 * np.log10(np.maximum(power, 1e-12))
    share = np.clip((level_db - level_db.max()) / _RANGE_DB + 1, 0, 1)
    return _png((share.T[::-1] * 255).astype(np.uint8))


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Palette PNG of (height, width) (PNG specification, second edition, section 11)."""
    height, width = pixels.shape
    stops = np.linspace(0, 255, len(_COLOURS))
    palette = np.stack([np.interp(np.arange(256), stops, channel) for channel in np.array(_COLOURS).T], 1)
    lines = b"".join(b"\0" + line.tobytes() for line in pixels)
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", palette.round().astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines, 9)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
