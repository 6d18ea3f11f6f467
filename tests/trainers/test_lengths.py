"""The length rule: the line of the rows where they lie on one, else the mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers.objectives.lengths import length_rule


@given(
    st.lists(st.integers(1, 200), min_size=2, max_size=20).filter(lambda sizes: len(set(sizes)) > 1),
    st.integers(1, 20),
    st.integers(1, 50),
)
def test_rows_on_a_line_give_it(sizes: list[int], per_token: int, per_sentence: int) -> None:
    rule = length_rule(sizes, [per_token * size + per_sentence for size in sizes])
    assert rule["frames_per_token"] == pytest.approx(per_token, rel=1e-3, abs=0.02)
    assert rule["frames_per_sentence"] == pytest.approx(per_sentence, rel=1e-3, abs=0.5)


@pytest.mark.parametrize(
    ("tokens", "frames"),
    [
        ([4, 4, 4], [10, 12, 20]),
        ([4, 8], [10, 24]),
        ([4, 8], [12, 10]),
        ([3], [9]),
        ([], []),
        ([0, 0], [4, 4]),
    ],
)
def test_no_line_leaves_the_mean(tokens: list[int], frames: list[int]) -> None:
    """Rows of one size; a sentence of negative length; longer texts that are shorter."""
    mean = sum(frames) / max(1, sum(max(size, 1) for size in tokens))
    assert length_rule(tokens, frames) == {"frames_per_token": pytest.approx(mean)}


def test_long_rows_do_not_decide_what_a_short_one_has() -> None:
    """Their share of the error is that of their relative length, not of their frames."""
    tokens = [10, 20, 30, 400]
    frames = [5 * size + 20 for size in tokens[:3]] + [1000]
    rule = length_rule(tokens, frames)
    assert 10 * rule["frames_per_token"] + rule["frames_per_sentence"] == pytest.approx(70, rel=0.1)
