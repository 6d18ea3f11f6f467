"""Discriminators of waves: convolutions over the wave folded at several periods, and over bands of complex spectra.

Layers, parameter names and maths are those of descript-audio-codec 1.0.0 (dac/model/discriminator.py; Kumar et al.
2023, section 3.4, after HiFi-GAN, Kong et al. 2020), so weights trained there load here. Two deviations: the level
below which a wave is not brought up is a setting, and waves shorter than a window are padded with zeros first.

Shape suffixes: B batch, N samples, C channels, L rows of a folded wave, P period, T frames, F frequency bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Features = list[list[Tensor]]
"""For each discriminator its layers' outputs, the last of which is the score."""


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Discriminators and widths. The widths are a fraction of DAC's: its own (period_channels 32, 128, 512,
    1024, 1024, spectrum_channels 32: 42 M parameters) need a GPU.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    """Samples at which the wave is folded; primes overlap least."""
    period_channels: tuple[int, ...] = (16, 32, 64, 128, 128)
    """Output channels of the layers of each period's discriminator; all but the last have stride 3."""
    fft_lengths: tuple[int, ...] = (2048, 1024, 512)
    """Windows of the spectra, samples; the hop is a quarter."""
    bands: tuple[tuple[float, float], ...] = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
    """Parts of half the sample rate with layers of their own."""
    spectrum_channels: int = 16
    quietest_peak: float = 1e-3
    """Added to a wave's peak before it is scaled to 0.8 of full scale. DAC's 1e-9 raises silence to full scale, and
    the gradients of a silent row with it."""

    def __post_init__(self) -> None:
        if not self.periods and not self.fft_lengths:
            raise ValueError("periods and fft_lengths are both empty: give at least one discriminator")
        if any(period < 1 for period in self.periods):
            raise ValueError(f"periods is {self.periods}: each must be at least 1")
        if any(length < 16 or length % 4 for length in self.fft_lengths):
            raise ValueError(f"fft_lengths is {self.fft_lengths}: each must be a multiple of 4 from 16 up")
        if not self.period_channels or min(*self.period_channels, self.spectrum_channels) < 1:
            raise ValueError(
                f"period_channels is {self.period_channels} and spectrum_channels {self.spectrum_channels}: "
                "needs at least one layer, each of at least 1 channel"
            )
        if not self.bands or not all(0 <= low < high <= 1 for low, high in self.bands):
            raise ValueError(f"bands is {self.bands}: each must be (low, high) with 0 <= low < high <= 1")
        if not self.quietest_peak > 0:
            raise ValueError(f"quietest_peak is {self.quietest_peak}: must be above 0")


class Discriminators(nn.Module):
    """All discriminators on the same waves, each brought to the same peak."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        periods = [_PeriodDiscriminator(period, config.period_channels) for period in config.periods]
        spectra = [
            _SpectrumDiscriminator(length, config.bands, config.spectrum_channels)
            for length in config.fft_lengths
        ]
        self.discriminators = nn.ModuleList([*periods, *spectra])
        self.shortest = max(*config.fft_lengths, *(period + 1 for period in config.periods), 1)

    def forward(self, wave_BN: Tensor) -> Features:
        """Waves (B, N) -> feature maps (B, C, ...) of every layer; a row's features depend on that row alone."""
        wave_BN = functional.pad(wave_BN, (0, max(0, self.shortest - wave_BN.shape[1])))
        centred_BN = wave_BN - wave_BN.mean(dim=1, keepdim=True)
        peak_B1 = centred_BN.abs().amax(dim=1, keepdim=True)
        level_BN = 0.8 * centred_BN / (peak_B1 + self.config.quietest_peak)
        return [discriminator(level_BN) for discriminator in self.discriminators]


class _Convolution(nn.Module):
    """A convolution whose weight is a direction times a length for each output channel (Salimans & Kingma 2016)."""

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
    ) -> None:
        super().__init__()
        start = nn.Conv2d(inputs, outputs, kernel)
        assert start.bias is not None
        self.weight_v, self.bias = start.weight, start.bias
        self.weight_g = nn.Parameter(_lengths(start.weight.detach()))
        self.stride, self.padding = stride, (kernel[0] // 2, kernel[1] // 2)

    def forward(self, values_BCXY: Tensor) -> Tensor:
        weight = self.weight_v * (self.weight_g / _lengths(self.weight_v))
        found: Tensor = functional.conv2d(values_BCXY, weight, self.bias, self.stride, self.padding)
        return found


def _lengths(weight: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(weight, dim=(1, 2, 3), keepdim=True)
    return lengths


def _activated(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Sequential:
    return nn.Sequential(_Convolution(inputs, outputs, kernel, stride), nn.LeakyReLU(0.1))


class _PeriodDiscriminator(nn.Module):
    """Sees samples that lie one period apart as neighbours."""

    def __init__(self, period: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.period = period
        *inner, last = zip((1, *channels), channels, strict=False)
        layers = [_activated(inputs, outputs, (5, 1), (3, 1)) for inputs, outputs in inner]
        self.convs = nn.ModuleList([*layers, _activated(*last, (5, 1))])
        self.conv_post = _Convolution(channels[-1], 1, (3, 1))

    def forward(self, wave_BN: Tensor) -> list[Tensor]:
        period = self.period
        # A wave of whole periods gets one more: so it is in dac, and weights from there expect it.
        padded_BN = _reflect(wave_BN, 0, period - wave_BN.shape[1] % period)
        hidden = padded_BN.reshape(padded_BN.shape[0], 1, -1, period)
        features = []
        for layer in self.convs:
            hidden = layer(hidden)
            features.append(hidden)
        return [*features, self.conv_post(hidden)]


class _SpectrumDiscriminator(nn.Module):
    """Sees real and imaginary part of a spectrogram, each band through layers of its own."""

    window_W: Tensor

    def __init__(self, fft_length: int, bands: tuple[tuple[float, float], ...], channels: int) -> None:
        super().__init__()
        bins = fft_length // 2 + 1
        self.fft_length = fft_length
        self.bands = [(int(low * bins), int(high * bins)) for low, high in bands]
        self.register_buffer("window_W", torch.hann_window(fft_length), persistent=False)
        self.band_convs = nn.ModuleList([self._stack(channels) for _ in bands])
        self.conv_post = _Convolution(channels, 1, (3, 3))

    @staticmethod
    def _stack(channels: int) -> nn.ModuleList:
        narrowing = [_activated(channels, channels, (3, 9), (1, 2)) for _ in range(3)]
        return nn.ModuleList(
            [_activated(2, channels, (3, 9)), *narrowing, _activated(channels, channels, (3, 3))]
        )

    def forward(self, wave_BN: Tensor) -> list[Tensor]:
        spectrum_BCTF = self._spectrum(wave_BN)
        features, ends = [], []
        for (low, high), stack in zip(self.bands, self.band_convs, strict=True):
            assert isinstance(stack, nn.ModuleList)
            hidden = spectrum_BCTF[..., low:high]
            for layer in stack:
                hidden = layer(hidden)
                features.append(hidden)
            ends.append(hidden)
        return [*features, self.conv_post(torch.cat(ends, dim=3))]

    def _spectrum(self, wave_BN: Tensor) -> Tensor:
        """(B, 2, T, F), one frame a hop begun, real and imaginary part."""
        hop = self.fft_length // 4
        edge = (self.fft_length - hop) // 2
        missing = math.ceil(wave_BN.shape[1] / hop) * hop - wave_BN.shape[1]
        # A Fourier transform in 16 bits would lose what quiet bands hold.
        with torch.autocast(wave_BN.device.type, enabled=False):
            spectrum_BFT = torch.stft(
                _reflect(wave_BN.float(), edge, edge + missing),
                self.fft_length,
                hop,
                window=self.window_W,
                center=False,
                return_complex=True,
            )
        return torch.view_as_real(spectrum_BFT).permute(0, 3, 2, 1)


def _reflect(wave_BN: Tensor, left: int, right: int) -> Tensor:
    return functional.pad(wave_BN[:, None], (left, right), mode="reflect")[:, 0]
