"""Discriminators judge each row alone, whatever its level or length, as descript-audio-codec's do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from models.codecs.discriminators import DiscriminatorConfig, Discriminators, Features

Sweep = Callable[[int, int], Tensor]
TINY = DiscriminatorConfig(
    periods=(2, 3),
    period_channels=(4, 8),
    fft_lengths=(256,),
    bands=((0.0, 0.5), (0.5, 1.0)),
    spectrum_channels=4,
)


@pytest.fixture
def tiny() -> Discriminators:
    torch.manual_seed(0)
    return Discriminators(TINY)


def assert_close(left: Features, right: Features, **tolerance: float) -> None:
    assert [len(layers) for layers in left] == [len(layers) for layers in right]
    for layers, others in zip(left, right, strict=True):
        for layer, other in zip(layers, others, strict=True):
            torch.testing.assert_close(layer, other, **tolerance)


@pytest.mark.parametrize("samples", [2000, 2048])
def test_the_same_weights_judge_as_in_dac(sweep: Sweep, samples: int) -> None:
    dac = pytest.importorskip("dac.model.discriminator")
    torch.manual_seed(0)
    theirs = dac.Discriminator(periods=[5], fft_sizes=[512], sample_rate=16_000)
    published = DiscriminatorConfig(
        periods=(5,),
        period_channels=(32, 128, 512, 1024, 1024),
        fft_lengths=(512,),
        spectrum_channels=32,
        quietest_peak=1e-9,
    )
    ours = Discriminators(published)
    ours.load_state_dict(theirs.state_dict())
    wave_BN = torch.stack([sweep(samples, 1), 0.1 * sweep(samples, 2)])
    with torch.no_grad():
        assert_close(ours(wave_BN), theirs(wave_BN[:, None]), rtol=1e-4, atol=1e-5)


def test_a_row_is_judged_alone(tiny: Discriminators, sweep: Sweep) -> None:
    rows = torch.stack([sweep(1600, seed) for seed in range(3)])
    together = tiny(rows)
    for index, row in enumerate(rows):
        of_row = [[layer[index : index + 1] for layer in layers] for layers in together]
        assert_close(tiny(row[None]), of_row)


def test_loudness_does_not_matter_but_silence_stays_silent(tiny: Discriminators, sweep: Sweep) -> None:
    wave_BN = sweep(1600, 0)[None]
    assert_close(tiny(wave_BN), tiny(0.5 * wave_BN), rtol=0.02, atol=0.02)
    hiss_BN = 1e-7 * torch.randn(1, 1600)
    assert_close(tiny(hiss_BN), tiny(torch.zeros(1, 1600)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("samples", [1, 2, 7, 255, 257])
def test_short_waves_are_judged_too(tiny: Discriminators, samples: int) -> None:
    scores = [layers[-1] for layers in tiny(torch.full((2, samples), 0.3))]
    assert len(scores) == 3
    assert all(score.shape[:2] == (2, 1) and bool(score.isfinite().all()) for score in scores)


def test_gradients_reach_every_parameter_and_the_wave(tiny: Discriminators, sweep: Sweep) -> None:
    wave_BN = sweep(1600, 0)[None].requires_grad_()
    sum(layers[-1].square().mean() for layers in tiny(wave_BN)).backward()
    silent = [
        name for name, p in tiny.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)
    ]
    assert silent == []
    assert wave_BN.grad is not None
    assert bool(wave_BN.grad.abs().sum() > 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"periods": (), "fft_lengths": ()}, "give at least one discriminator"),
        ({"periods": (2, 0)}, r"periods is \(2, 0\): each must be at least 1"),
        ({"fft_lengths": (510,)}, r"fft_lengths is \(510,\): each must be a multiple of 4"),
        ({"period_channels": ()}, "needs at least one layer"),
        ({"spectrum_channels": 0}, "spectrum_channels 0"),
        ({"bands": ((0.5, 0.2),)}, r"bands is \(\(0.5, 0.2\),\)"),
        ({"quietest_peak": 0.0}, "quietest_peak is 0.0"),
    ],
)
def test_wrong_sizes_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiscriminatorConfig(**wrong)
