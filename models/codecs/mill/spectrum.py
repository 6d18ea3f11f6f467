"""Waveform <-> magnitude spectrum: the short-time Fourier transform, mel bands, and Griffin-Lim for the phase.

Shape suffixes: B batch, N samples, S spectra, F frequency bins.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torchaudio
from torch import Tensor
from torch.nn import functional

Start = Literal["random", "peaks"]
"""Where Griffin-Lim's phases start: fixed random ones, or those of a steady tone at every peak of a spectrum."""
_MOMENTUM = 0.99
_QUIETEST = 0.05
"""Of the noise's magnitudes, relative to their root mean square."""


def magnitudes(wave_BN: Tensor, fft_length: int, hop_length: int) -> Tensor:
    """Hann-windowed magnitudes (B, N / hop, F); spectrum s is centred on the middle of samples [s, s + 1) * hop.

    N is a multiple of the hop; what lies outside the wave counts as zero.
    """
    return analyse(wave_BN, fft_length, hop_length).abs()


def mel_filters(fft_length: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters (F, mels) on Slaney's scale, each of unit area, up to half the sample rate."""
    # Values, not shapes, are looked at on the way, so that a network on the meta device needs them too.
    with torch.device("cpu"):
        filters_FM: Tensor = torchaudio.functional.melscale_fbanks(
            fft_length // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
    return filters_FM


def griffin_lim(magnitudes_SF: Tensor, hop_length: int, iterations: int, start: Start = "random") -> Tensor:
    """A wave (S * hop,) whose magnitudes are near the given ones: fast Griffin-Lim (Perraudin et al. 2013).

    The inverse of `magnitudes` up to the phase. It starts from phases that the magnitudes decide, or nothing does, so
    equal magnitudes give equal waves. Leading dimensions are rows: (B, S, F) -> (B, S * hop).
    """
    return synthesize(griffin_lim_spectrum(magnitudes_SF, hop_length, iterations, start), hop_length)


def griffin_lim_spectrum(
    magnitudes_SF: Tensor,
    hop_length: int,
    iterations: int,
    start: Start = "random",
    noise_from: int | None = None,
) -> Tensor:
    """The complex spectra (S, F) that `griffin_lim` makes its wave of: the given magnitudes, with phases.

    From bin `noise_from` to an octave above it the magnitudes go over to those of noise with the given spectrum. Noise
    has no even magnitudes, and what comes nearest to even ones, spectrum after spectrum, is a pulse in each: a buzz.
    """
    fft_length = 2 * (magnitudes_SF.shape[-1] - 1)
    border = _border(fft_length, hop_length)
    target_FS = functional.pad(magnitudes_SF.transpose(-1, -2), (border, border))
    window = _window(fft_length, magnitudes_SF)
    length = hop_length * (target_FS.shape[-1] - 1)
    phases_FS = _random_phases(target_FS) if start == "random" else _peak_phases(target_FS, hop_length)
    if noise_from is not None:
        target_FS, phases_FS = _with_noise(target_FS, phases_FS, hop_length, noise_from)
    estimate_FS = target_FS * phases_FS
    previous_FS = torch.zeros_like(estimate_FS)
    for _ in range(iterations):
        wave_N = torch.istft(estimate_FS, fft_length, hop_length, window=window, length=length)
        consistent_FS = torch.stft(
            wave_N, fft_length, hop_length, window=window, pad_mode="constant", return_complex=True
        )
        estimate_FS = consistent_FS - _MOMENTUM / (1 + _MOMENTUM) * previous_FS
        estimate_FS = target_FS * estimate_FS / estimate_FS.abs().clamp(min=1e-8)
        previous_FS = consistent_FS
    return estimate_FS[..., border:-border].transpose(-1, -2)


def synthesize(spectrum_SF: Tensor, hop_length: int) -> Tensor:
    """Complex spectra (..., S, F), laid out as those of `magnitudes` -> wave (..., S * hop), by least squares."""
    spectra, fft_length = spectrum_SF.shape[-2], 2 * (spectrum_SF.shape[-1] - 1)
    border = _border(fft_length, hop_length)
    padded_FS = functional.pad(spectrum_SF.transpose(-1, -2), (border, border))
    window = _window(fft_length, spectrum_SF.real)
    length = hop_length * (padded_FS.shape[-1] - 1)
    wave_N = torch.istft(padded_FS, fft_length, hop_length, window=window, length=length)
    start = hop_length * border - hop_length // 2
    return wave_N[..., start : start + hop_length * spectra]


def analyse(wave_N: Tensor, fft_length: int, hop_length: int) -> Tensor:
    """Complex Hann-windowed spectra (..., N / hop, F) of waves (..., N): `magnitudes` before the absolute value."""
    edge = (fft_length - hop_length) // 2
    spectrum_FS = torch.stft(
        functional.pad(wave_N, (edge, edge)),
        fft_length,
        hop_length,
        window=_window(fft_length, wave_N),
        center=False,
        return_complex=True,
    )
    return spectrum_FS.transpose(-1, -2)


def sharpen(magnitudes_SF: Tensor, contrast: float) -> Tensor:
    """Magnitudes (..., S, F) to the power of `contrast`, scaled so that the energy of a row stays what it was."""
    powered_SF = magnitudes_SF.pow(contrast)
    before, after = (values.norm(dim=(-2, -1), keepdim=True) for values in (magnitudes_SF, powered_SF))
    sharper_SF: Tensor = powered_SF * (before / after.clamp(min=1e-12))
    return sharper_SF


def cut_at_quiet(magnitudes_SF: Tensor, longest: int) -> list[Tensor]:
    """Cut into segments of at most `longest` spectra, each cut before the quietest one of a segment's second half.

    Griffin-Lim needs memory for all spectra at once; where hardly anything sounds, a phase may start anew.
    """
    phrases = []
    while magnitudes_SF.shape[0] > longest:
        energy_S = magnitudes_SF[longest // 2 : longest].square().sum(dim=1)
        cut = longest // 2 + int(energy_S.argmin())
        phrases.append(magnitudes_SF[:cut])
        magnitudes_SF = magnitudes_SF[cut:]
    return [*phrases, magnitudes_SF]


def _random_phases(target_FS: Tensor) -> Tensor:
    """Pseudo-random but fixed unit phasors: bin and spectrum index decide, not the length of the wave."""
    bins, spectra = target_FS.shape[-2:]
    generator = torch.Generator().manual_seed(0)
    # Row-major by spectrum, so that a longer wave begins with the phases of a shorter one.
    phases_SF = torch.rand(spectra, bins, generator=generator, dtype=torch.float64) * (2 * math.pi)
    return torch.polar(torch.ones_like(phases_SF), phases_SF).T.to(target_FS.device, torch.complex64)


def _with_noise(
    target_FS: Tensor, phases_FS: Tensor, hop_length: int, noise_from: int
) -> tuple[Tensor, Tensor]:
    """Targets and unit phasors that become those of a fixed noise from bin `noise_from` to twice that bin."""
    bins, spectra = target_FS.shape[-2:]
    fft_length = 2 * (bins - 1)
    # From a fixed seed, so that a longer wave begins with the noise of a shorter one, but for its exact level.
    noise_N = torch.randn(spectra * hop_length, generator=torch.Generator().manual_seed(0))
    noise_FS = analyse(noise_N, fft_length, hop_length).T.to(target_FS.device)
    level_FS = noise_FS.abs() / noise_FS.abs().square().mean().sqrt()
    place_F1 = torch.arange(bins, device=target_FS.device)[:, None] / noise_from
    share_F1 = (place_F1 - 1).clamp(0, 1)
    # Phases are taken where noise prevails: a mixture of two phases would be a third.
    mixed_FS = torch.where(share_F1 > 0.5, noise_FS / noise_FS.abs().clamp(min=1e-8), phases_FS)
    return target_FS * level_FS.clamp(min=_QUIETEST) ** share_F1, mixed_FS


def _peak_phases(target_FS: Tensor, hop_length: int) -> Tensor:
    """Unit phasors of a steady tone at every peak: single-pass spectrogram inversion (Beauregard et al. 2015).

    A peak's frequency is where a parabola through the three logarithms around it is highest. Its phase in the middle of
    the window advances by that from spectrum to spectrum, and is that of the bins nearer to it than to another peak;
    seen from the window's start, bins are half a turn apart. A peak that glides to the next bin so keeps its phase.
    """
    bins = target_FS.shape[-2]
    level_SF = (target_FS.transpose(-1, -2) + 1e-4).log()
    below_SF = functional.pad(level_SF, (1, 0), value=-math.inf)[..., :-1]
    above_SF = functional.pad(level_SF, (0, 1), value=-math.inf)[..., 1:]
    peak_SF = (level_SF > below_SF) & (level_SF >= above_SF)
    bin_SF = torch.arange(bins, device=level_SF.device).expand(level_SF.shape)
    lower_SF = torch.where(peak_SF, bin_SF, -2 * bins).cummax(dim=-1).values
    upper_SF = torch.where(peak_SF, bin_SF, 3 * bins).flip(-1).cummin(dim=-1).values.flip(-1)
    nearest_SF = torch.where(bin_SF - lower_SF <= upper_SF - bin_SF, lower_SF, upper_SF).clamp(0, bins - 1)
    bend_SF = (below_SF - 2 * level_SF + above_SF).clamp(min=-1e6, max=-1e-3)
    offset_SF = ((below_SF - above_SF).clamp(-1e6, 1e6) / (2 * bend_SF)).clamp(-0.5, 0.5)
    # In turns and in float64: over a minute, radians in float32 would be a quarter of a radian apart.
    advance_SF = (bin_SF + offset_SF.double()).gather(-1, nearest_SF) * (hop_length / (2 * (bins - 1)))
    turns_SF = advance_SF.cumsum(dim=-2).gather(-1, nearest_SF) + bin_SF / 2
    phases_SF = 2 * math.pi * turns_SF.frac()
    return torch.polar(torch.ones_like(phases_SF), phases_SF).transpose(-1, -2).to(torch.complex64)


def _border(fft_length: int, hop_length: int) -> int:
    """Silent spectra at both ends, so that every sample lies under as many windows as in the middle."""
    return math.ceil(fft_length / hop_length / 2)


def _window(fft_length: int, like: Tensor) -> Tensor:
    return torch.hann_window(fft_length, dtype=like.dtype, device=like.device)
