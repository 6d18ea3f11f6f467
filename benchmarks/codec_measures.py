"""Measures of the codec bench besides STOI and PESQ: mel distance, voice, and the buzz of a frame rate."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from models.codecs.mill.spectrum import magnitudes, mel_filters

RATE = 16_000
Likeness = Callable[[Tensor, Tensor], float]


def mel_distance(original_T: Tensor, decoded_T: Tensor) -> float:
    """Mean absolute difference of natural-log mel values: 80 bands, 1024-point Hann window, hop 256."""
    filters_FM = mel_filters(1024, 80, RATE)
    size = len(original_T) // 256 * 256
    pair = [
        torch.log((magnitudes(wave_T[None, :size], 1024, 256) @ filters_FM).clamp(min=1e-2))
        for wave_T in (original_T, decoded_T)
    ]
    return float((pair[0] - pair[1]).abs().mean())


def voice_likeness() -> Likeness | None:
    """Cosine of the voices of two waves (GE2E, Wan et al. 2018, as Resemblyzer trained it): about 0.6 for two people,
    above 0.8 for one. None where that package is missing.
    """
    try:
        from resemblyzer import VoiceEncoder
    except ImportError:
        return None
    encoder = VoiceEncoder("cpu", verbose=False)

    def likeness(original_T: Tensor, decoded_T: Tensor) -> float:
        voices = [encoder.embed_utterance(wave_T.numpy()) for wave_T in (original_T, decoded_T)]
        return float(voices[0] @ voices[1])

    return likeness


def buzz_db(wave_T: Tensor, rate_hz: float) -> float:
    """Prominence in dB of a modulation at `rate_hz` over its neighbours within 12 Hz, in the level of 3 to 8 kHz.

    About 0 for recordings: what hisses has no rate. A decoder whose frames are heard has its frame rate there.
    """
    window = torch.hann_window(128)
    spectra_FS = torch.stft(wave_T, 128, 16, window=window, return_complex=True)[24:]
    level_S = (spectra_FS.abs().square().sum(dim=0) + 1e-6).log()
    level_S = (level_S - level_S.mean()) * torch.hann_window(len(level_S))
    power_R = torch.fft.rfft(level_S).abs().square()
    apart_R = (torch.fft.rfftfreq(len(level_S), 16 / RATE) - rate_hz).abs()
    beside = power_R[(apart_R > 3) & (apart_R < 12)].mean()
    return 10 * math.log10(float(power_R[apart_R <= 1].mean() / beside))
