"""Codes in Arrow and as arrays: what is stored comes back, nulls and views included."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog import codes
from catalog.codes import STORED, flat, matrices, numbers, stored


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


def test_stored_codes_are_numbers_up_to_65535_or_samples() -> None:
    stored_QT = np.array([[0, 32767, -32768, -1]], np.int16)
    assert numbers(stored_QT, signed=False).tolist() == [[0, 32767, 32768, 65535]]
    assert numbers(stored_QT, signed=True).tolist() == [[0, 32767, -32768, -1]]
    assert numbers(stored_QT, signed=False).dtype == np.int64


def test_more_codes_than_one_array_can_address_are_refused() -> None:
    most = 2**31 - 1
    assert codes._offsets([most - 5, 5]).to_pylist() == [0, most - 5, most]
    with pytest.raises(ValueError, match=r"^2147483648 codes in one table; must be fewer than"):
        codes._offsets([most, 1])
