"""Variation of recordings: speed with its pitch, gain within full scale."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.data import CodesBatch
from trainers.objectives.variation import augment, change_speed, samples_of
from trainers.plan import Position


@pytest.mark.parametrize("length", [6000, 8000, 10_000])
def test_change_of_speed_moves_the_pitch_and_keeps_the_level(length: int) -> None:
    wave_BN = torch.sin(2 * math.pi * 1000 / 16_000 * torch.arange(8000))[None]
    changed_BN = change_speed(wave_BN, length)
    assert changed_BN.shape == (1, length)
    peak_hz = float(torch.fft.rfft(changed_BN).abs().argmax()) * 16_000 / length
    assert abs(peak_hz - 1000 * 8000 / length) < 16_000 / length
    torch.testing.assert_close(changed_BN.square().mean(), wave_BN.square().mean(), rtol=0.02, atol=0.0)


@pytest.mark.parametrize(("speed", "length"), [(0.8, 1920), (1.25, 1280)])
def test_a_variation_has_whole_hops_and_stays_within_full_scale(speed: float, length: int) -> None:
    wave_BN = torch.stack([torch.full((1600,), 0.9), 0.01 * torch.sin(torch.arange(1600) * 0.1)])
    varied_BN = augment(wave_BN, (speed,), (6.0, 6.0), 160, torch.Generator().manual_seed(0))
    assert varied_BN.shape == (2, length)
    torch.testing.assert_close(varied_BN[0], torch.ones(length))
    gain = varied_BN[1].square().mean().sqrt() / wave_BN[1].square().mean().sqrt()
    assert float(gain) == pytest.approx(10**0.3, rel=0.02)


def test_a_variation_depends_on_its_generator_alone() -> None:
    wave_BN = torch.sin(torch.arange(1600) * 0.1).repeat(2, 1) * 0.1
    first, again, other = (
        augment(wave_BN, (0.8, 1.0, 1.25), (-15.0, 6.0), 160, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize(("given", "kept"), [(100, 160), (160, 160), (500, 480)])
def test_samples_are_whole_hops(given: int, kept: int) -> None:
    codes_BQT = torch.full((2, 1, given), -16384, dtype=torch.int16)
    batch = CodesBatch(Position(0, 0), ("a", "b"), 2 * given, codes_BQT, torch.tensor([given, given]))
    wave_BN = samples_of(batch, 160)
    assert wave_BN.shape == (2, kept)
    assert torch.equal(wave_BN[:, : min(given, kept)], torch.full((2, min(given, kept)), -0.5))
    assert not wave_BN[:, given:].any()
