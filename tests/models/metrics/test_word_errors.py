"""Edits by known answers, and what holds of any two texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics.word_errors import (
    EditCounts,
    character_errors,
    edit_counts,
    error_rate,
    normalized,
    word_errors,
)

WORDS = st.lists(st.sampled_from("abc"), max_size=8)


@pytest.mark.parametrize(
    ("reference", "heard", "expected"),
    [
        ("kitten", "sitting", EditCounts(2, 0, 1, 6)),
        ("abc", "abc", EditCounts(0, 0, 0, 3)),
        ("abc", "", EditCounts(0, 3, 0, 3)),
        ("", "ab", EditCounts(0, 0, 2, 0)),
        ("ab", "ba", EditCounts(2, 0, 0, 2)),  # as cheap as a deletion and an insertion
    ],
)
def test_known_edits(reference: str, heard: str, expected: EditCounts) -> None:
    assert edit_counts(reference, heard) == expected


@given(WORDS, WORDS)
def test_swapping_the_sides_swaps_insertions_and_deletions(one: list[str], other: list[str]) -> None:
    there, back = edit_counts(one, other), edit_counts(other, one)
    assert (there.substitutions, there.deletions, there.insertions) == (
        back.substitutions,
        back.insertions,
        back.deletions,
    )
    assert there.length - there.deletions + there.insertions == len(other)


@given(WORDS, WORDS, WORDS)
def test_edits_are_a_distance(one: list[str], two: list[str], three: list[str]) -> None:
    assert (edit_counts(one, two).errors == 0) == (one == two)
    assert edit_counts(one, three).errors <= edit_counts(one, two).errors + edit_counts(two, three).errors


def test_the_rate_is_pooled_over_rows() -> None:
    assert error_rate([EditCounts(1, 0, 0, 1), EditCounts(0, 0, 0, 9)]) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="hold nothing"):
        error_rate([EditCounts(0, 0, 2, 0)])


def test_normalisation_is_that_of_whisper() -> None:
    assert normalized("Mr. Smith's got twenty-one cats, hmm!", "en-GB") == "mister smith has got 21 cats"
    assert normalized("Grüße, «Welt»!", "de") == "grüße welt"
    assert word_errors("It's two o'clock.", "it is 2 o'clock", "en").errors == 0
    assert character_errors("Grüße", "grüsse", "de") == EditCounts(1, 0, 1, 5)
