"""Confidence intervals by resampling."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.metrics.bootstrap import bootstrap_interval


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_share_of_independent_rows_has_its_binomial_interval() -> None:
    values = [float(row % 5 != 0) for row in range(400)]
    low, high = bootstrap_interval(values, range(400), seeded(), resamples=4000)
    half = 1.96 * math.sqrt(0.8 * 0.2 / 400)
    assert low == pytest.approx(0.8 - half, abs=0.006)
    assert high == pytest.approx(0.8 + half, abs=0.006)


def test_repeating_every_row_narrows_nothing() -> None:
    values = [float(row % 3 == 0) for row in range(60)]
    once = bootstrap_interval(values, range(60), seeded())
    thrice = bootstrap_interval(values * 3, [*range(60)] * 3, seeded())
    assert thrice == pytest.approx(once)
    as_if_independent = bootstrap_interval(values * 3, range(180), seeded())
    assert as_if_independent[1] - as_if_independent[0] < 0.7 * (once[1] - once[0])


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.integers(0, 9))
def test_intervals_lie_within_the_values_and_shift_with_them(values: list[float], seed: int) -> None:
    low, high = bootstrap_interval(values, range(len(values)), seeded(seed), resamples=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    moved = bootstrap_interval(
        [value + 2 for value in values], range(len(values)), seeded(seed), resamples=50
    )
    assert moved == pytest.approx((low + 2, high + 2))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="0 values in 0 clusters"):
        bootstrap_interval([], [], seeded())
    with pytest.raises(ValueError, match="2 values in 1 clusters"):
        bootstrap_interval([1.0, 0.0], [1], seeded())
    with pytest.raises(ValueError, match=r"level is 95"):
        bootstrap_interval([1.0], [1], seeded(), level=95)


def test_weights_make_it_the_interval_of_an_error_rate() -> None:
    words, errors = [2, 8, 4, 6] * 10, [1, 0, 2, 3] * 10
    rates = [error / count for error, count in zip(errors, words, strict=True)]
    low, high = bootstrap_interval(rates, range(40), seeded(), weights=[float(count) for count in words])
    assert low < sum(errors) / sum(words) < high
    # Each word as a value of its own, clustered by row, is the same resampling.
    flat = [
        (error / count, row)
        for row, (error, count) in enumerate(zip(errors, words, strict=True))
        for _ in range(count)
    ]
    spread = bootstrap_interval([rate for rate, _ in flat], [row for _, row in flat], seeded())
    assert (low, high) == pytest.approx(spread)
    with pytest.raises(ValueError, match="1 weights for 2 values"):
        bootstrap_interval([1.0, 0.0], [0, 1], seeded(), weights=[1.0])
