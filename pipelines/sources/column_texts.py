"""Columns of texts as Python values, however few bytes of a file stand for however many of them.

A dictionary, or a view, lets a file of kilobytes hold gigabytes of equal texts. Equal ones of a dictionary stay one
object, views are measured before they are followed, and texts above the limit are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.sources.reading import current

Lengths = npt.NDArray[np.int64]
_ROWS = 256
"""Rows that are Python objects at a time."""


def is_text(kind: pa.DataType) -> bool:
    """True for a column of texts, of a dictionary of texts too."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
                or (pa.types.is_dictionary(kind) and is_text(kind.value_type)))  # fmt: skip


def rows_of(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each row by column, and the name of a column whose text is too long, which is None then."""
    for at in range(0, batch.num_rows, _ROWS):
        part = batch.slice(at, _ROWS)
        columns = {name: _values(part.column(name)) for name in part.schema.names}
        for row in range(part.num_rows):
            too_long = next((name for name, (_, long) in columns.items() if long[row]), None)
            yield {name: values[row] for name, (values, _) in columns.items()}, too_long


def lengths(column: pa.Array) -> Lengths:
    """Bytes of each value of a column of texts or bytes, 0 for a null; nothing is copied."""
    if pa.types.is_string_view(column.type) or pa.types.is_binary_view(column.type):
        views = np.frombuffer(column.buffers()[1], np.int32).reshape(-1, 4)
        found = views[column.offset : column.offset + len(column), 0].astype(np.int64)
        return np.where(column.is_valid().to_numpy(zero_copy_only=False), found, 0)
    return _numbers(pc.binary_length(column))


def _values(column: pa.Array) -> tuple[list[Any], npt.NDArray[np.bool_]]:
    if pa.types.is_dictionary(column.type):
        words, long = _values(column.dictionary)
        places = _numbers(column.indices)
        valid = column.indices.is_valid().to_numpy(zero_copy_only=False)
        values = [words[place] if is_there else None for place, is_there in zip(places, valid, strict=True)]
        return values, (long[places] & valid if len(words) else np.zeros(len(column), np.bool_))
    if not is_text(column.type):
        return column.to_pylist(), np.zeros(len(column), np.bool_)
    long = lengths(column) > current().text_bytes
    if pa.types.is_string_view(column.type):  # Arrow has few functions for views
        return [None if skip else one.as_py() for one, skip in zip(column, long, strict=True)], long
    return pc.if_else(pa.array(long), pa.scalar(None, column.type), column).to_pylist(), long


def _numbers(column: pa.Array) -> Lengths:
    found: Lengths = pc.fill_null(column, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return found
