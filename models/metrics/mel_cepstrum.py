"""Mel-cepstral distance (Kubichek 1993) and correlation of pitch, over frames that an alignment pairs.

T samples, N frames, M mel bands, C cepstral coefficients, P pairs of frames. The cepstra are cosine transforms of a
log-mel spectrum, not SPTK's warped ones, so distances compare with each other and not with every paper's.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
from torch import Tensor

SAMPLE_RATE = 16_000
HOP_S = 0.01
COEFFICIENTS = 13
"""The first ones behind coefficient 0, which is the level."""
_BANDS, _WINDOW = 80, 512
_FLOOR = 1e-5
"""Amplitude added to each band: silence has no cepstrum of its own."""
_LEAST_PAIRS = 10


def mel_cepstra(wave_T: Tensor) -> Tensor:
    """Coefficients 1 to 13 (N, C) of a wave at SAMPLE_RATE, N = 1 + T // 160: log amplitude of the mel bands is
    c_0 + sum of c_d cos(pi d (m + 1/2) / M).
    """
    amplitudes_MN = _mel()(wave_T.float())
    cosines_MC = torch.cos(
        math.pi / _BANDS * (torch.arange(_BANDS) + 0.5)[:, None] * torch.arange(1, COEFFICIENTS + 1)[None]
    )
    cepstra_NC: Tensor = (amplitudes_MN + _FLOOR).log().T @ cosines_MC * (2 / _BANDS)
    return cepstra_NC


def mel_cepstral_distance(one_PC: Tensor, other_PC: Tensor) -> float:
    """Mean over pairs of frames in dB: 10 / ln 10 * sqrt(2 * sum of squared differences). ValueError without pairs."""
    if not len(one_PC) or one_PC.shape != other_PC.shape:
        raise ValueError(
            f"cepstra of shapes {tuple(one_PC.shape)} and {tuple(other_PC.shape)}; must be equal, with a pair at least"
        )
    squares_P = (one_PC - other_PC).double().square().sum(1)
    return float((2 * squares_P).sqrt().mean() * (10 / math.log(10)))


def f0_correlation(one_P: Tensor, other_P: Tensor) -> float | None:
    """Pearson's correlation of log F0 (Hz, 0 is unvoiced) over pairs that are voiced in both.

    None with fewer than 10 of them, or where a pitch does not move.
    """
    both = (one_P > 0) & (other_P > 0)
    if int(both.sum()) < _LEAST_PAIRS:
        return None
    logs = torch.stack([one_P[both], other_P[both]]).double().log()
    logs = logs - logs.mean(1, keepdim=True)
    power = logs.square().sum(1)
    if float(power.min()) < 1e-9:
        return None
    return float((logs[0] * logs[1]).sum() / power.prod().sqrt())


@cache
def _mel() -> Any:
    from torchaudio.transforms import MelSpectrogram

    return MelSpectrogram(
        SAMPLE_RATE,
        n_fft=_WINDOW,
        hop_length=round(SAMPLE_RATE * HOP_S),
        n_mels=_BANDS,
        power=1.0,
        norm="slaney",
    )
