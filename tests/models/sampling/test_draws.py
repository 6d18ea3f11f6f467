"""Random numbers of samplers: known answers at the ends of the range."""

from __future__ import annotations

import math

import pytest
import torch

from models.sampling.draws import gumbel


@pytest.mark.parametrize(
    ("uniform", "noise"),
    [
        (0.0, -math.log(-math.log(1e-10))),  # where the logarithm would be infinite
        (math.exp(-1), 0.0),
        (math.exp(-math.exp(-2)), 2.0),
        (1.0, -math.log(1e-10)),
    ],
)
def test_gumbel_noise_is_finite_and_right(uniform: float, noise: float) -> None:
    assert float(gumbel(torch.tensor(uniform))) == pytest.approx(noise, rel=1e-4, abs=1e-5)
