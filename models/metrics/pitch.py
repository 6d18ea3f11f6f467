"""Fundamental frequency by YIN (de Cheveigne and Kawahara 2002). T samples, N frames, W samples of a window, L lags."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
THRESHOLD = 0.15
"""Highest aperiodicity of a voiced frame; the paper has 0.1 for clean speech (section II.D)."""
_QUIET = 1e-3
"""-60 dB: frames whose level is below this share of the loudest frame's are unvoiced."""


def f0(wave_T: Tensor, sample_rate: int, hop_s: float) -> Tensor:
    """Hz of each frame (N,), frames centred at n * `hop_s`, N = 1 + T // hop; 0 where it is unvoiced."""
    hop, longest = round(sample_rate * hop_s), int(sample_rate / LOWEST_HZ) + 1
    shortest = int(sample_rate / HIGHEST_HZ)
    half = 2 * longest
    frames_NW = functional.pad(wave_T.double(), (half, half)).unfold(0, 2 * half, hop)
    normal_NL = _normal_difference(frames_NW, longest + 1)
    levels_N = frames_NW.square().mean(1).sqrt()
    loud_N = levels_N > _QUIET * levels_N.max().clamp(min=1e-9)
    lag_N, least_N = _first_dip(normal_NL, shortest)
    voiced_N = loud_N & (least_N < THRESHOLD)
    return torch.where(voiced_N, sample_rate / lag_N, torch.zeros_like(lag_N)).float()


def _normal_difference(frames_NW: Tensor, lags: int) -> Tensor:
    """The cumulative mean normalised difference (paper, equation 8) of lags 0 to `lags`, over a fixed window."""
    width = frames_NW.shape[1] - lags
    size = 2 * frames_NW.shape[1]
    spectrum = torch.fft.rfft(frames_NW, size)
    window = torch.fft.rfft(frames_NW[:, :width], size)
    products_NL = torch.fft.irfft(window.conj() * spectrum, size)[:, : lags + 1]
    sums = functional.pad(frames_NW.square().cumsum(1), (1, 0))
    energy_NL = sums[:, width : width + lags + 1] - sums[:, : lags + 1]
    difference_NL = (energy_NL[:, :1] + energy_NL - 2 * products_NL).clamp(min=0)
    steps_L = torch.arange(1, lags + 1, dtype=frames_NW.dtype)
    means_NL = difference_NL[:, 1:].cumsum(1) / steps_L
    return functional.pad(difference_NL[:, 1:] / means_NL.clamp(min=1e-12), (1, 0), value=1.0)


def _first_dip(normal_NL: Tensor, shortest: int) -> tuple[Tensor, Tensor]:
    """Lag, between samples, of the first dip below THRESHOLD (else of the lowest point), and how low it is."""
    inner = normal_NL[:, shortest:-1]
    dips = (
        (inner <= normal_NL[:, shortest - 1 : -2])
        & (inner < normal_NL[:, shortest + 1 :])
        & (inner < THRESHOLD)
    )
    first = torch.where(dips.any(1), dips.long().argmax(1), inner.argmin(1)) + shortest
    rows = torch.arange(len(normal_NL))
    left, middle, right = (normal_NL[rows, first + step] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = torch.where(bend > 1e-12, (left - right) / (2 * bend.clamp(min=1e-12)), torch.zeros_like(bend))
    return first + shift.clamp(-1, 1), middle
