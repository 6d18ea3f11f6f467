"""Kaldi's log-mel filter bank, in the form that w2v-BERT 2.0 reads: B rows, T samples or frames, N values.

Equal to transformers' `SeamlessM4TFeatureExtractor`, but for batches, on any device.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from models.layers.masks import length_mask

SAMPLE_RATE = 16_000
HOP = 320
"""Samples of a frame: two windows, 10 ms apart, side by side."""
_WINDOW, _SHIFT, _FFT, _MELS = 400, 160, 512, 80
_PREEMPHASIS = 0.97
_FLOOR = 1.192092955078125e-07


def frame_counts(lengths_B: Tensor) -> Tensor:
    """Samples -> frames: two windows make one, a last window alone makes one too, but one alone is none."""
    windows_B = _window_counts(lengths_B)
    return torch.where(windows_B < 2, 0, (windows_B + 1) // 2)


def log_mel_frames(wave_BT: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
    """Waves in [-1, 1] -> frames (B, T, 160) float32 and a bool mask (B, T) of those that both windows fill.

    Each mel band has mean 0 and variance 1 over a row. What is not filled is zero.
    """
    windows_B = _window_counts(lengths_B)
    longest = int(frame_counts(lengths_B).max()) if len(lengths_B) else 0
    if not longest:
        return wave_BT.new_zeros(len(wave_BT), 0, 2 * _MELS), length_mask(windows_B, 0)
    size = _WINDOW + (2 * longest - 1) * _SHIFT
    padded_BT = functional.pad(wave_BT.double() * 2**15, (0, max(0, size - wave_BT.shape[1])))
    mel_BNM = _log_mel(padded_BT[:, :size].unfold(1, _WINDOW, _SHIFT))
    filled_BN1 = length_mask(windows_B, mel_BNM.shape[1])[..., None]
    counts_B11 = windows_B[:, None, None]
    mean_B1M = (mel_BNM * filled_BN1).sum(dim=1, keepdim=True) / counts_B11.clamp(min=1)
    centred_BNM = (mel_BNM - mean_B1M) * filled_BN1
    variance_B1M = centred_BNM.square().sum(dim=1, keepdim=True) / (counts_B11 - 1).clamp(min=1)
    normal_BNM = centred_BNM / (variance_B1M + 1e-7).sqrt()
    frames_BTN = normal_BNM.float().reshape(len(wave_BT), longest, 2 * _MELS)
    return frames_BTN, length_mask(windows_B // 2, longest)


def _window_counts(lengths_B: Tensor) -> Tensor:
    counts_B: Tensor = torch.div(lengths_B - _WINDOW, _SHIFT, rounding_mode="floor") + 1
    return counts_B.clamp(min=0)


def _log_mel(frames_BNT: Tensor) -> Tensor:
    centred_BNT = frames_BNT - frames_BNT.mean(dim=-1, keepdim=True)
    # The first sample is its own predecessor.
    before_BNT = functional.pad(centred_BNT, (1, 0), mode="replicate")[..., :-1]
    shaped_BNT = (centred_BNT - _PREEMPHASIS * before_BNT) * _window().to(frames_BNT.device)
    power_BNF = torch.view_as_real(torch.fft.rfft(shaped_BNT, _FFT)).square().sum(dim=-1)
    mel_BNM: Tensor = power_BNF @ _filters().to(frames_BNT.device)
    return mel_BNM.clamp(min=_FLOOR).log()


@cache
def _window() -> Tensor:
    """Kaldi's window: Hann's to the power of 0.85."""
    return torch.hann_window(_WINDOW, periodic=False, dtype=torch.float64) ** 0.85


@cache
def _filters() -> Tensor:
    """Triangles on the mel scale (F, M), from 20 Hz to half the sample rate."""
    lowest, highest = _mel(torch.tensor([20.0, SAMPLE_RATE / 2], dtype=torch.float64)).tolist()
    edges_E = torch.linspace(lowest, highest, _MELS + 2, dtype=torch.float64)
    bins_F1 = _mel(torch.linspace(0, SAMPLE_RATE / 2, _FFT // 2 + 1, dtype=torch.float64))[:, None]
    up_FM = (bins_F1 - edges_E[:-2]) / (edges_E[1:-1] - edges_E[:-2])
    down_FM = (edges_E[2:] - bins_F1) / (edges_E[2:] - edges_E[1:-1])
    return torch.minimum(up_FM, down_FM).clamp(min=0)


def _mel(frequency_hz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(frequency_hz / 700.0)
