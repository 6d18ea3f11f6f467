"""Recordings as a codec's training sees them: samples of `pcm-*` rows, played faster or slower, louder or softer.

Shape suffixes: B batch, N samples, F frequency bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from trainers.data import CodesBatch

_FULL_SCALE = 32768.0


def samples_of(batch: CodesBatch, hop_length: int) -> Tensor:
    """Waves (B, N) of a batch of `pcm-*` rows, cut to whole hops, at least one."""
    wave_BN = batch.codes_BQT[:, 0].float() / _FULL_SCALE
    if wave_BN.shape[1] < hop_length:
        return functional.pad(wave_BN, (0, hop_length - wave_BN.shape[1]))
    return wave_BN[:, : wave_BN.shape[1] // hop_length * hop_length]


def augment(
    wave_BN: Tensor,
    speeds: Sequence[float],
    gain_db: tuple[float, float],
    hop_length: int,
    generator: torch.Generator,
) -> Tensor:
    """One of `speeds` for the batch, pitch included, cut to whole hops, and a gain from the range for each row, which
    stays within full scale.
    """
    speed = speeds[int(torch.randint(len(speeds), (1,), generator=generator))]
    hops = max(1, round(wave_BN.shape[1] / speed / hop_length))
    wave_BN = change_speed(wave_BN, hops * hop_length)
    low, high = gain_db
    gain_db_B = low + (high - low) * torch.rand(wave_BN.shape[0], generator=generator)
    gain_B = (10 ** (gain_db_B / 20)).to(wave_BN.device)
    loudest_B = wave_BN.abs().amax(dim=1).clamp(min=1e-6)
    return wave_BN * torch.minimum(gain_B, 1 / loudest_B)[:, None]


def change_speed(wave_BN: Tensor, length: int) -> Tensor:
    """The same sound in `length` samples, band-limited: bins of its Fourier transform are cut off or added."""
    samples = wave_BN.shape[1]
    if length == samples:
        return wave_BN
    spectrum_BF = torch.fft.rfft(wave_BN)
    bins = length // 2 + 1
    spectrum_BF = functional.pad(spectrum_BF, (0, max(0, bins - spectrum_BF.shape[1])))[:, :bins]
    changed_BN: Tensor = torch.fft.irfft(spectrum_BF, n=length) * (length / samples)
    return changed_BN
