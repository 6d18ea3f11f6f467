"""The learned waveform head: Griffin-Lim's first complex spectra, corrected by ConvNeXt blocks at spectrum rate.

After Vocos (Siuzdak 2023): depthwise convolutions over time and an inverse Fourier transform, no upsampling. Unlike
Vocos it does not make phases from nothing. It reads how a few Griffin-Lim iterations left the phases, in terms that
do not depend on when and where (differences between neighbours), and answers with a gain and a rotation of each bin.
The last layer starts at zero, so before any training this is the Griffin-Lim decoder.

Shape suffixes: B batch, S spectra, F frequency bins, D latent channels, I inputs, C hidden channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codecs.mill.spectrum import analyse, synthesize

_KERNEL = 7
_FEATURES = 8
_LARGEST_LOG_GAIN = 3.0
_QUIET = 1e-3


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of the waveform head."""

    channels: int = 256
    blocks: int = 6
    expansion: int = 3
    """Width of a block's inner layer relative to `channels`."""

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"head.{name} is {getattr(self, name)}: must be at least 1")


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over time, LayerNorm, two pointwise layers, a learned scale; residual (Liu et al. 2022)."""

    def __init__(self, channels: int, expansion: int, scale: float) -> None:
        super().__init__()
        self.taps_KC = nn.Parameter(torch.empty(_KERNEL, channels).uniform_(-1, 1) / math.sqrt(_KERNEL))
        self.norm = nn.LayerNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.scale_C = nn.Parameter(torch.full((channels,), scale))

    def forward(self, hidden_BSC: Tensor) -> Tensor:
        """(B, S, C) -> (B, S, C); outside the sequence counts as zero."""
        edge, length = _KERNEL // 2, hidden_BSC.shape[1]
        padded = functional.pad(hidden_BSC, (0, 0, edge, edge))
        mixed_BSC = self.taps_KC[0] * padded[:, :length]
        for at in range(1, _KERNEL):
            mixed_BSC = torch.addcmul(mixed_BSC, self.taps_KC[at], padded[:, at : at + length])
        change_BSC: Tensor = self.narrow(functional.gelu(self.widen(self.norm(mixed_BSC))))
        return hidden_BSC + self.scale_C * change_BSC


class WaveHead(nn.Module):
    """Corrects complex spectra before they become a wave. `hop_length`: samples between spectra."""

    def __init__(
        self, config: HeadConfig, fft_length: int, hop_length: int, latent_channels: int, log_floor: float
    ) -> None:
        super().__init__()
        self.fft_length, self.hop_length, self.log_floor = fft_length, hop_length, log_floor
        bins, channels = fft_length // 2 + 1, config.channels
        self.enter = nn.Linear(_FEATURES * bins + latent_channels, channels)
        self.enter_norm = nn.LayerNorm(channels)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(channels, config.expansion, 1 / config.blocks) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(channels)
        self.leave = nn.Linear(channels, 2 * bins)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, estimate_BSF: Tensor, latents_BSD: Tensor) -> Tensor:
        """Complex spectra (B, S, F) and the latents of their frames -> corrected complex spectra (B, S, F)."""
        values_BSI = torch.cat([self._features(estimate_BSF.detach()), latents_BSD.detach()], dim=-1)
        hidden_BSC = self.enter_norm(self.enter(values_BSI))
        for block in self.blocks:
            hidden_BSC = block(hidden_BSC)
        log_gain_BSF, angle_BSF = self.leave(self.norm(hidden_BSC)).float().chunk(2, dim=-1)
        gain_BSF = (_LARGEST_LOG_GAIN * torch.tanh(log_gain_BSF / _LARGEST_LOG_GAIN)).exp()
        return estimate_BSF * torch.polar(gain_BSF, angle_BSF)

    def _features(self, estimate_BSF: Tensor) -> Tensor:
        """Log-magnitudes of the estimate and of the spectra of its wave, and three relative phases as unit vectors:
        between those two, to the spectrum before (less the advance of the bin's centre) and to the bin below (less the
        half turn that a sound in the middle of the window has).
        """
        bins = estimate_BSF.shape[-1]
        wave_BN = synthesize(estimate_BSF, self.hop_length)
        consistent_BSF = analyse(wave_BN, self.fft_length, self.hop_length)
        advance_F = torch.arange(bins, device=wave_BN.device) * (
            -2 * math.pi * self.hop_length / self.fft_length
        )
        earlier_BSF = functional.pad(estimate_BSF, (0, 0, 1, 0))[:, :-1]
        lower_BSF = functional.pad(estimate_BSF, (1, 0))[..., :-1]
        relative = (
            consistent_BSF * estimate_BSF.conj(),
            estimate_BSF * earlier_BSF.conj() * torch.polar(torch.ones_like(advance_F), advance_F),
            -estimate_BSF * lower_BSF.conj(),
        )
        logs = [
            # Centred and scaled by what speech at ordinary levels has.
            (values_BSF.abs() + self.log_floor).log() / 2 + 1
            for values_BSF in (estimate_BSF, consistent_BSF)
        ]
        return torch.cat([*logs, *(part for values in relative for part in _unit(values))], dim=-1)


def _unit(values_BSF: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the phase, shrinking to zero where there is hardly any sound."""
    unit_BSF = values_BSF / (values_BSF.abs() + _QUIET)
    return unit_BSF.real, unit_BSF.imag
