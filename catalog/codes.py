"""Codes as datasets store them, `list<list<int>>`, and as arrays (Q, T): Q codebooks, T frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Matrix = npt.NDArray[np.int16]
"""Codes of one row as stored, (Q, T)."""
STORED = pa.list_(pa.list_(pa.int16()))


class Flat(NamedTuple):
    """Codes of many rows back to back; a null row has no levels."""

    values: npt.NDArray[np.int16]
    levels: npt.NDArray[np.int64]
    """Codebooks of each row."""
    frames: npt.NDArray[np.int64]
    """Frames of each codebook of each row."""


def flat(codes: pa.Array) -> Flat:
    """The codes of an array `list<list<int>>`, without a copy where it has no nulls."""
    inner = codes.flatten()
    values = inner.flatten().to_numpy(zero_copy_only=False)
    return Flat(values, _lengths(codes), _lengths(inner))


def matrices(codes: pa.ChunkedArray) -> list[Matrix | None]:
    """Each row of a column as (Q, T), views where there are no nulls; None for a null or codebooks that differ in T."""
    return [row for chunk in codes.chunks for row in _rows(flat(chunk))]


def _rows(codes: Flat) -> Iterator[Matrix | None]:
    level = start = 0
    for levels in codes.levels.tolist():
        frames = codes.frames[level : level + levels]
        stop = start + int(frames.sum())
        is_whole = levels > 0 and (frames == frames[0]).all()
        yield codes.values[start:stop].reshape(levels, -1) if is_whole else None
        level, start = level + levels, stop


def stored(rows: Sequence[Matrix | None]) -> pa.Array:
    """Rows (Q, T) as STORED, null for None. ValueError for more codes than one array can address."""
    present = [row for row in rows if row is not None]
    values = np.concatenate([row.reshape(-1) for row in present]) if present else np.zeros(0, np.int16)
    frames = [row.shape[1] for row in present for _ in range(row.shape[0])]
    inner = pa.ListArray.from_arrays(_offsets(frames), pa.array(values, pa.int16()))
    levels = [0 if row is None else row.shape[0] for row in rows]
    mask = pa.array([row is None for row in rows], pa.bool_())
    return pa.ListArray.from_arrays(_offsets(levels), inner, mask=mask)


def numbers(codes: Matrix, signed: bool) -> npt.NDArray[np.int64]:
    """Stored codes as numbers: samples are signed, codes above 32767 are stored as two's complement."""
    wide = codes.astype(np.int64)
    return wide if signed else wide & 0xFFFF


def _lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    lengths: npt.NDArray[np.int64] = lists.value_lengths().fill_null(0).to_numpy().astype(np.int64)
    return lengths


def _offsets(lengths: list[int]) -> pa.Array:
    ends = np.cumsum([0, *lengths], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"{ends[-1]} codes in one table; must be fewer than 2**31, so use smaller batches")
    return pa.array(ends.astype(np.int32))
