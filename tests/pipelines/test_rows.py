"""Rows in flight: parts of rows, and characters per second."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rows import (
    SCHEMA,
    Part,
    chars_per_s,
    explode,
    samples_array,
    speaking_rate,
    waves,
    with_column,
)

TEXTS = st.text(
    st.sampled_from(" \t\n\x1c\x1f\x85\xa0\u1680\u2003\u2028\u3000ab\u00e9\u3042\U0001f600\u200b")
)


def table(*names: str) -> pa.Table:
    """Rows with an id, and samples of their own."""
    columns = {field.name: pa.nulls(len(names), field.type) for field in SCHEMA}
    columns["id"] = pa.array(names)
    columns["samples"] = samples_array([np.full(4, row, np.float32) for row in range(len(names))])
    return pa.table(columns, schema=SCHEMA)


def test_parts_inherit_what_they_do_not_change() -> None:
    whole = with_column(table("a", "b"), "speaker", ["x", "y"])
    first, second = waves(whole)
    assert first is not None
    parts = [Part(0, first[:1], {"id": "a1"}), Part(0, None, {"speaker": None, "absent": 3}), Part(1, second)]
    found = explode(whole, parts)
    assert found.schema == whole.schema
    assert found["id"].to_pylist() == ["a1", "a", "b"]
    assert found["speaker"].to_pylist() == ["x", None, "y"]
    assert found["samples"].to_pylist() == [[0.0], None, [1.0] * 4]


def test_parts_share_the_samples() -> None:
    whole = table("a")
    (wave,) = waves(whole)
    assert wave is not None
    for part in waves(explode(whole, [Part(0, wave[:2]), Part(0, wave[2:])])):
        assert part is not None
        assert np.shares_memory(part, wave)


@settings(deadline=None)
@given(st.lists(st.tuples(st.none() | TEXTS, st.none() | st.floats(0, 100)), max_size=5))
def test_characters_per_second_leave_white_space_out(rows: list[tuple[str | None, float | None]]) -> None:
    texts, seconds = (
        pa.array([row[0] for row in rows], pa.string()),
        pa.array([row[1] for row in rows], pa.float64()),
    )
    expected = [
        None if text is None or not length else sum(not one.isspace() for one in text) / length
        for text, length in rows
    ]
    assert speaking_rate(texts, seconds).to_pylist() == expected
    known = pa.table(
        {"text": texts, "duration_s": seconds, "chars_per_s": pa.array([1.0] * len(rows), pa.float32())}
    )
    assert chars_per_s(known).to_pylist() == [1.0] * len(rows)
