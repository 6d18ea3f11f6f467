"""Companions: of the same group, never the row itself, a function of the row alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.companions import Companions
from trainers.draws import mix

groups = st.lists(st.tuples(st.integers(-1, 4), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(groups, st.integers(1, 4), st.integers(0, 2**64 - 1))
def test_companions_are_other_eligible_rows_of_the_group(
    rows: list[tuple[int, bool]], count: int, key: int
) -> None:
    groups_N = np.array([group for group, _ in rows], dtype=np.int32)
    eligible_N = np.array([eligible for _, eligible in rows])
    companions = Companions(groups_N, eligible_N)
    others = [
        {other for other in range(len(rows)) if rows[other] == (group, True)} - {row}
        for row, (group, _) in enumerate(rows)
    ]
    expected = [
        eligible and group >= 0 and len(others[row]) >= count for row, (group, eligible) in enumerate(rows)
    ]
    assert companions.enough(count).tolist() == expected
    asked = np.flatnonzero(expected)
    chosen = companions.choose(asked, mix(asked, key), count)
    for row, found in zip(asked, chosen.tolist(), strict=True):
        assert len(set(found)) == count
        assert set(found) <= others[row]
        alone = companions.choose(np.array([row]), mix(np.array([row]), key), count)
        assert alone.tolist() == [found]


def test_every_other_row_is_as_likely() -> None:
    companions = Companions(np.zeros(5, dtype=np.int32), np.ones(5, dtype=np.bool_))
    rows = np.full(8000, 2)
    chosen = companions.choose(rows, mix(np.arange(8000), 1), 2)
    for drawn in chosen.T:
        counts = np.bincount(drawn, minlength=5)
        assert counts[2] == 0
        assert abs(counts[[0, 1, 3, 4]] / 8000 - 0.25).max() < 0.02


def splitmix(value: int, addend: int) -> int:
    """One output of SplitMix64, as published, from the state `value` with the increment `addend`."""
    value = (value + addend) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return value ^ (value >> 31)


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
def test_mixing_is_two_rounds_of_splitmix(value: int, key: int) -> None:
    """Seeds are kept by nothing but this function: a run that continues needs the same."""
    assert splitmix(0, 0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    assert mix(np.array([value]), key).tolist() == [splitmix(splitmix(value, 0x9E3779B97F4A7C15), key)]


@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 2**32))
def test_small_groups_give_all_they_have_and_then_the_same_again(size: int, count: int, key: int) -> None:
    companions = Companions(np.zeros(size, dtype=np.int32), np.ones(size, dtype=np.bool_))
    rows = np.arange(size)
    for row, chosen in zip(rows, companions.choose(rows, mix(rows, key), count).tolist(), strict=True):
        others = size - 1
        assert len(set(chosen[:others])) == min(count, others)
        assert row not in chosen
        assert chosen[others:] == [chosen[at % others] for at in range(others, count)]
