"""Waveform <-> magnitude spectrum: the short-time Fourier transform, mel bands, and Griffin-Lim for the phase.

Shape suffixes: B batch, N samples, S spectra, F frequency bins.
"""

from __future__ import annotations

import math

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional


def magnitudes(wave_BN: Tensor, fft_length: int, hop_length: int) -> Tensor:
    """Hann-windowed magnitudes (B, N / hop, F); spectrum s is centred on the middle of samples [s, s + 1) * hop.

    N is a multiple of the hop; what lies outside the wave counts as zero.
    """
    edge = (fft_length - hop_length) // 2
    spectrum_BFS = torch.stft(
        functional.pad(wave_BN, (edge, edge)),
        fft_length,
        hop_length,
        window=_window(fft_length, wave_BN),
        center=False,
        return_complex=True,
    )
    return spectrum_BFS.abs().transpose(1, 2)


def mel_filters(fft_length: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters (F, mels) on Slaney's scale, each of unit area, up to half the sample rate."""
    # Values, not shapes, are looked at on the way, so that a network on the meta device needs them too.
    with torch.device("cpu"):
        filters_FM: Tensor = torchaudio.functional.melscale_fbanks(
            fft_length // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
    return filters_FM


def griffin_lim(magnitudes_SF: Tensor, hop_length: int, iterations: int, momentum: float = 0.99) -> Tensor:
    """A wave (S * hop,) whose magnitudes are near the given ones: fast Griffin-Lim (Perraudin et al. 2013).

    The inverse of `magnitudes` up to the phase. It starts from fixed phases, so equal magnitudes give equal waves.
    """
    spectra, fft_length = magnitudes_SF.shape[0], 2 * (magnitudes_SF.shape[1] - 1)
    # Silent spectra at both ends, so that every sample of the wave lies under as many windows as in the middle.
    border = math.ceil(fft_length / hop_length / 2)
    target_FS = functional.pad(magnitudes_SF.T, (border, border))
    window = _window(fft_length, magnitudes_SF)
    length = hop_length * (spectra + 2 * border - 1)
    estimate_FS = target_FS * _initial_phases(target_FS)
    previous_FS = torch.zeros_like(estimate_FS)
    for _ in range(iterations):
        wave_N = torch.istft(estimate_FS, fft_length, hop_length, window=window, length=length)
        consistent_FS = torch.stft(
            wave_N, fft_length, hop_length, window=window, pad_mode="constant", return_complex=True
        )
        estimate_FS = consistent_FS - momentum / (1 + momentum) * previous_FS
        estimate_FS = target_FS * estimate_FS / estimate_FS.abs().clamp(min=1e-8)
        previous_FS = consistent_FS
    wave_N = torch.istft(estimate_FS, fft_length, hop_length, window=window, length=length)
    start = hop_length * border - hop_length // 2
    return wave_N[start : start + hop_length * spectra]


def sharpen(magnitudes_SF: Tensor, contrast: float) -> Tensor:
    """Magnitudes to the power of `contrast`, scaled so that their energy stays what it was."""
    powered_SF = magnitudes_SF.pow(contrast)
    sharper_SF: Tensor = powered_SF * (magnitudes_SF.norm() / powered_SF.norm().clamp(min=1e-12))
    return sharper_SF


def cut_at_quiet(magnitudes_SF: Tensor, longest: int) -> list[Tensor]:
    """Cut into stretches of at most `longest` spectra, each cut before the quietest one of a stretch's second half.

    Griffin-Lim needs memory for all spectra at once; where hardly anything sounds, a phase may start anew.
    """
    phrases = []
    while magnitudes_SF.shape[0] > longest:
        energy_S = magnitudes_SF[longest // 2 : longest].square().sum(dim=1)
        cut = longest // 2 + int(energy_S.argmin())
        phrases.append(magnitudes_SF[:cut])
        magnitudes_SF = magnitudes_SF[cut:]
    return [*phrases, magnitudes_SF]


def _initial_phases(target_FS: Tensor) -> Tensor:
    """Pseudo-random but fixed unit phasors: bin and spectrum index decide, not the length of the wave."""
    bins, spectra = target_FS.shape
    generator = torch.Generator().manual_seed(0)
    # Row-major by spectrum, so that a longer wave begins with the phases of a shorter one.
    phases_SF = torch.rand(spectra, bins, generator=generator, dtype=torch.float64) * (2 * math.pi)
    return torch.polar(torch.ones_like(phases_SF), phases_SF).T.to(target_FS.device, torch.complex64)


def _window(fft_length: int, like: Tensor) -> Tensor:
    return torch.hann_window(fft_length, dtype=like.dtype, device=like.device)
