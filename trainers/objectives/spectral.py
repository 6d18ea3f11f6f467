"""Distances between waves over several resolutions of their spectra.

Windows, mel counts, floors and sums are those of descript-audio-codec (dac/nn/loss.py and conf/final of 1.0.0), so that
its published weights apply: Hann windows, a hop of a quarter window, reflected edges, decimal logarithms.

Shape suffixes: B batch, N samples, F frequency bins, T frames, M mel values.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codecs.mill.spectrum import mel_filters

_FLOOR = 1e-5


@dataclass(frozen=True)
class SpectralSettings:
    """Weights and resolutions. The weights are DAC's (conf/final), which measures the STFT but does not train on it."""

    mel_weight: float = 15.0
    mel_windows: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    """Samples."""
    mel_counts: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320)
    """Mel values of a frame, one count for each window."""
    mel_floor: float = 1e-5
    """Mel values below it count as it. DAC's; a higher one lets quiet parts weigh less than speech."""
    stft_weight: float = 0.0
    stft_windows: tuple[int, ...] = (2048, 512)
    """Samples."""

    def __post_init__(self) -> None:
        for name in ("mel_weight", "stft_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must not be negative")
        if len(self.mel_windows) != len(self.mel_counts):
            raise ValueError(
                f"mel_windows has {len(self.mel_windows)} entries and mel_counts {len(self.mel_counts)}: "
                "give one count for each window"
            )
        for name in ("mel_windows", "stft_windows"):
            if not getattr(self, name) or any(window < 8 or window % 4 for window in getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}: needs multiples of 4 from 8 up")
        if not self.mel_floor > 0:
            raise ValueError(f"mel_floor is {self.mel_floor}: must be above 0")
        if min(self.mel_counts) < 1:
            raise ValueError(f"mel_counts is {self.mel_counts}: each must be at least 1")


class MelDistance(nn.Module):
    """Mean absolute distance of log-mel values, summed over the windows; 0 for equal waves."""

    def __init__(self, settings: SpectralSettings, sample_rate: int) -> None:
        super().__init__()
        self.windows, self.floor = settings.mel_windows, settings.mel_floor
        for window, count in zip(settings.mel_windows, settings.mel_counts, strict=True):
            with warnings.catch_warnings():
                # 320 mel bands are narrower than a bin at low frequencies; a band without a bin counts as equal.
                warnings.filterwarnings("ignore", message="At least one mel filterbank")
                filters_FM = mel_filters(window, count, sample_rate)
            self.register_buffer(f"filters_{window}", filters_FM, persistent=False)

    def forward(self, made_BN: Tensor, real_BN: Tensor) -> Tensor:
        """Two waves (B, N) float32 -> scalar."""
        return torch.stack([self._at(window, made_BN, real_BN) for window in self.windows]).sum()

    def _at(self, window: int, made_BN: Tensor, real_BN: Tensor) -> Tensor:
        filters_FM = self.get_buffer(f"filters_{window}")
        made_BTM, real_BTM = (
            (spectrum(wave_BN, window).transpose(1, 2) @ filters_FM).clamp(min=self.floor).log10()
            for wave_BN in (made_BN, real_BN)
        )
        return functional.l1_loss(made_BTM, real_BTM)


class StftDistance(nn.Module):
    """Mean absolute distance of magnitudes and of the logarithms of their squares, summed over the windows."""

    def __init__(self, settings: SpectralSettings) -> None:
        super().__init__()
        self.windows = settings.stft_windows

    def forward(self, made_BN: Tensor, real_BN: Tensor) -> Tensor:
        """Two waves (B, N) float32 -> scalar."""
        return torch.stack([self._at(window, made_BN, real_BN) for window in self.windows]).sum()

    def _at(self, window: int, made_BN: Tensor, real_BN: Tensor) -> Tensor:
        made_BFT, real_BFT = spectrum(made_BN, window), spectrum(real_BN, window)
        made_log, real_log = (2 * values.clamp(min=_FLOOR).log10() for values in (made_BFT, real_BFT))
        return functional.l1_loss(made_log, real_log) + functional.l1_loss(made_BFT, real_BFT)


def spectrum(wave_BN: Tensor, window: int) -> Tensor:
    """Magnitudes (B, F, T) of centred Hann windows; a wave shorter than a window is padded with zeros to one."""
    wave_BN = functional.pad(wave_BN, (0, max(0, window - wave_BN.shape[1])))
    window_W = torch.hann_window(window, device=wave_BN.device)
    return torch.stft(wave_BN, window, window // 4, window=window_W, center=True, return_complex=True).abs()
