"""Mel-cepstral distance and pitch of sounds whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from models.metrics.mel_cepstrum import SAMPLE_RATE, f0_correlation, mel_cepstra, mel_cepstral_distance
from models.metrics.pitch import f0

SECONDS = torch.arange(SAMPLE_RATE) / SAMPLE_RATE


def voice(f0_hz: Tensor) -> Tensor:
    """Eight harmonics of a pitch (T,)."""
    phase = 2 * math.pi * f0_hz.double().cumsum(0) / SAMPLE_RATE
    return sum(torch.sin(phase * number) / number for number in range(1, 9)).float() * 0.2  # type: ignore[union-attr]


def noise(seed: int) -> Tensor:
    return 0.1 * torch.randn(SAMPLE_RATE, generator=torch.Generator().manual_seed(seed))


def test_equal_waves_have_no_distance_and_the_level_does_not_count() -> None:
    wave = noise(0)
    cepstra = mel_cepstra(wave)
    assert cepstra.shape == (101, 13)
    assert mel_cepstral_distance(cepstra, mel_cepstra(wave.clone())) == 0.0
    assert mel_cepstral_distance(cepstra, mel_cepstra(wave * 0.5)) < 0.05
    assert mel_cepstral_distance(cepstra, mel_cepstra(voice(torch.full_like(SECONDS, 120.0)))) > 3.0


def test_the_distance_is_that_of_the_formula() -> None:
    one = torch.zeros(4, 13)
    other = one.clone()
    other[:, 2] = 1.0
    assert mel_cepstral_distance(one, other) == pytest.approx(10 / math.log(10) * math.sqrt(2))
    with pytest.raises(ValueError, match=r"\(4, 13\) and \(3, 13\)"):
        mel_cepstral_distance(one, other[:3])


@pytest.mark.parametrize("hz", [80.0, 123.4, 250.0, 440.0])
def test_pitch_of_a_steady_voice(hz: float) -> None:
    found = f0(voice(torch.full_like(SECONDS, hz)), SAMPLE_RATE, 0.01)
    assert found.shape == (101,)
    inner = found[5:-5]
    assert torch.all((inner / hz - 1).abs() < 0.01)


def test_noise_and_silence_have_no_pitch() -> None:
    assert (f0(noise(1), SAMPLE_RATE, 0.01) > 0).float().mean() < 0.05
    assert not f0(torch.zeros(SAMPLE_RATE), SAMPLE_RATE, 0.01).any()


def test_correlation_of_pitch() -> None:
    rising = f0(voice(100 + 80 * SECONDS), SAMPLE_RATE, 0.01)
    falling = f0(voice(180 - 80 * SECONDS), SAMPLE_RATE, 0.01)
    assert f0_correlation(rising, rising * 1.5) == pytest.approx(1.0)
    assert f0_correlation(rising[5:-5], falling[5:-5]) == pytest.approx(-1.0, abs=0.05)
    assert f0_correlation(rising, torch.zeros_like(rising)) is None
    assert f0_correlation(rising, torch.full_like(rising, 120.0)) is None
