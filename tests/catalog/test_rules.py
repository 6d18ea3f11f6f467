"""Rules of columns and rows, each by a table that breaks it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pyarrow as pa
import pytest

from catalog.rules import check_columns, check_rows
from catalog.schema import SCHEMA
from models.identity import TokenIdentity

Rows = Callable[..., pa.Table]


def put(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    """The table with other values of a column, or with that column."""
    field = SCHEMA.field(column)
    array = pa.array(values, field.type)
    if column not in table.column_names:
        return table.append_column(field, array)
    return table.set_column(table.column_names.index(column), field, array)


def test_columns() -> None:
    assert check_columns(SCHEMA) == []
    assert check_columns(pa.schema([SCHEMA.field("id"), SCHEMA.field("recording_id")])) == []
    assert check_columns(pa.schema([("recording_id", pa.int8()), ("mood", pa.string())])) == [
        "it has no column id",
        "its column recording_id holds int8, must be string",
        "its column 'mood' is not in docs/data.md",
    ]


def test_rejected_rows_need_a_reason_and_no_codes(rows: Rows, codec: TokenIdentity) -> None:
    table = rows(["a", "b"], "rejected", "silent")
    assert check_rows(table, "rejected", codec, {}) == []
    assert check_rows(put(table, "reason", ["zeal", "mood"]), "rejected", codec, {}) == [
        "reason 'mood' is not in docs/data.md",
        "reason 'zeal' is not in docs/data.md",
    ]


@pytest.mark.parametrize("split", ["train", "validation", "derived"])
def test_only_derived_rows_say_a_task_and_all_of_them(rows: Rows, codec: TokenIdentity, split: str) -> None:
    table = rows(["a"])
    told = put(table, "task", ["tts", "ns"])
    half = put(table, "task", ["tts", None])
    none = put(table, "task", [None, None])
    if split == "derived":
        assert check_rows(told, split, codec, {}) == []
        assert check_rows(half, split, codec, {}) == ["1 rows must say their task"]
        for without in (table, none):
            assert check_rows(without, split, codec, {}) == ["2 rows must say their task"]
    else:
        assert check_rows(told, split, codec, {}) == ["2 rows belong into the split derived"]
        assert check_rows(half, split, codec, {}) == ["1 rows belong into the split derived"]
        for without in (table, none):
            assert check_rows(without, split, codec, {}) == []


def test_codes_and_lengths_belong_to_every_row(rows: Rows, codec: TokenIdentity) -> None:
    table = put(put(rows(["a"]), "codes", [None, None]), "target_length", [3, None])
    assert check_rows(table, "train", codec, {}) == ["2 rows have no codes", "1 rows have no target_length"]


@pytest.mark.parametrize(
    ("codes", "lengths", "problem"),
    [
        ([[[0], [1023]], [[1, 2], [3, 4]]], [1, 2], None),
        ([[[], []], [[1], [2]]], [0, 1], None),
        ([[[0], [1]], [[1], [2], [3]]], [1, 1], "row 1 has 3 codebooks, the codec has 2"),
        ([[[0]], [[1]]], [1, 1], "row 0 has 1 codebooks, the codec has 2"),
        ([[[0], [1]], [[1, 2], [1]]], [1, 2], "row 1 has 1 frames, target_length says 2"),
        ([[[0], [1]], [[1, 2], [1, 2]]], [1, 3], "row 1 has 2 frames, target_length says 3"),
        ([[[0], [1]], [[1], [1024]]], [1, 1], "holds code 1024, the codebook has 1024 entries"),
        ([[[0], [1]], [[1], [-1]]], [1, 1], "holds code 65535, the codebook has 1024 entries"),
    ],
)
def test_codes_fit_the_codec(
    rows: Rows, codec: TokenIdentity, codes: list[object], lengths: list[object], problem: str | None
) -> None:
    table = put(put(rows(["a"]), "codes", codes), "target_length", lengths)
    assert check_rows(table, "train", codec, {}) == ([] if problem is None else [problem])


def test_sixteen_bits_hold_65536_entries(rows: Rows, codec: TokenIdentity) -> None:
    large = dataclasses.replace(codec, codebook_size=65536)
    table = put(put(rows(["a"]), "codes", [[[-1], [0]], [[-32768], [32767]]]), "target_length", [1, 1])
    assert check_rows(table, "train", large, {}) == []
    smaller = dataclasses.replace(codec, codebook_size=65535)
    assert check_rows(table, "train", smaller, {}) == ["holds code 65535, the codebook has 65535 entries"]
