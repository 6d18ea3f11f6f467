"""One entry per filter: what derives from it is complete."""

from __future__ import annotations

from typing import Any

import pytest

from catalog.filters import CHARACTERS, FILTERS, MEASURES, REASONS, Thresholds
from catalog.reasons import Reason
from catalog.schema import SCHEMA


def test_every_setting_is_a_filter_of_a_stored_column() -> None:
    assert FILTERS.keys() == Thresholds.model_fields.keys()
    columns = {one.measure.column for one in FILTERS.values()} - {CHARACTERS.column}
    assert columns <= set(SCHEMA.names)
    assert {one.column for one in MEASURES} <= set(SCHEMA.names)


def test_reasons_are_words_with_a_meaning() -> None:
    assert set(Reason) <= REASONS.keys()
    assert {one.reason for one in FILTERS.values()} <= REASONS.keys()
    assert all(word.isidentifier() and meaning for word, meaning in REASONS.items())
    for one in FILTERS.values():
        assert REASONS[one.reason] == one.meaning, "filters of one reason give it one meaning"


def test_only_given_thresholds_are_active() -> None:
    given = Thresholds(min_snr_db=0.0, chars_per_s={"en": (1, 2)})
    assert list(given.active()) == ["min_snr_db", "chars_per_s"]
    assert Thresholds().active() == {}


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 5"):
        Thresholds(min_dnsmos=6)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"min_duration_s": 2.0, "max_duration_s": 1.5},
            "duration_s: at least 2 and at most 1.5 leaves nothing",
        ),
        ({"min_chars": 3, "max_chars": 2}, "chars: at least 3 and at most 2 leaves nothing"),
        (
            {"chars_per_s": {"en": (1, 2), "de": (3, 2)}},
            r"chars_per_s\.de: at least 3 and at most 2 leaves nothing",
        ),
        ({"languages": ()}, "languages is empty, which allows none; leave it out to allow all"),
    ],
)
def test_thresholds_that_leave_nothing_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Thresholds(**given)


def test_thresholds_may_leave_one_value() -> None:
    one = Thresholds(
        min_duration_s=2, max_duration_s=2, min_chars=0, chars_per_s={"*": (0, 0)}, languages=("en",)
    )
    assert list(one.active()) == ["min_duration_s", "max_duration_s", "languages", "min_chars", "chars_per_s"]
    assert Thresholds(min_chars=5).max_chars is None
