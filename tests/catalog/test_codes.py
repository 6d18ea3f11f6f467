"""Codes in Arrow and as arrays: what is stored comes back, nulls and views included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.codes import STORED, flat, matrices, stored


def matrix(levels: int, frames: int) -> np.ndarray:
    return np.arange(levels * frames, dtype=np.int16).reshape(levels, frames)


rows_of_codes = st.lists(st.none() | st.builds(matrix, st.integers(1, 3), st.integers(0, 7)), max_size=8)


@settings(deadline=None)
@given(rows_of_codes, st.integers(0, 8), st.integers(0, 8))
def test_what_is_stored_comes_back(rows: list[np.ndarray | None], first: int, last: int) -> None:
    array = stored(rows)
    assert array.type == STORED
    assert array.to_pylist() == [None if row is None else row.tolist() for row in rows]
    found = matrices(pa.chunked_array([array.slice(first, max(0, last - first)), array]))
    expected = [*rows[first : max(first, last)], *rows]
    assert [None if row is None else row.tolist() for row in found] == [
        None if row is None else row.tolist() for row in expected
    ]


def test_codebooks_that_differ_in_length_are_no_matrix() -> None:
    ragged = pa.array([[[1, 2], [3]], [], [[4], [5]]], STORED)
    first, empty, last = matrices(pa.chunked_array([ragged]))
    assert (first, empty) == (None, None)
    assert last is not None
    assert last.tolist() == [[4], [5]]
    assert flat(ragged).frames.tolist() == [2, 1, 1, 1]


def test_matrices_are_views() -> None:
    array = stored([matrix(2, 3), matrix(2, 4)])
    values = flat(array).values
    for row in matrices(pa.chunked_array([array])):
        assert row is not None
        assert np.shares_memory(row, values)
