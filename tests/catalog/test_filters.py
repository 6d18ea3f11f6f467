"""One entry per filter: what derives from it is complete."""

from __future__ import annotations

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
