"""Rows of many Parquet files, read once: codes into one flat array, the other columns into Arrow batches.

Rows stay in the order they are read in; three arrays give each row its place once they are sorted by id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trainers.parquet_rows import flatten, held_as, read_batches

IntArray = npt.NDArray[np.int64]
ColumnTypes = Mapping[str, pa.DataType]
"""Columns besides `id`, `text` and `codes`, and how they are held."""
_BATCH_ROWS, _BATCH_BYTES = 1 << 16, 64 << 20
_BLOCK = 1 << 18


class Sink(Protocol):
    """Takes codes and columns in reading order, into memory or files."""

    def add_codes(self, values: npt.NDArray[np.int16]) -> None:
        """Append to the flat codes."""

    def add_columns(self, batch: pa.RecordBatch) -> None:
        """Append rows of the other columns; the first batch fixes the schema."""


class Memory:
    """A sink for what fits into memory."""

    def __init__(self, codes: int) -> None:
        """`codes`: int16 to expect at most."""
        self._codes, self._used = np.empty(codes, dtype=np.int16), 0
        self._batches: list[pa.RecordBatch] = []

    def add_codes(self, values: npt.NDArray[np.int16]) -> None:
        """Copy into the array that was made for all."""
        self._codes[self._used : self._used + len(values)] = values
        self._used += len(values)

    def add_columns(self, batch: pa.RecordBatch) -> None:
        """Keep a batch."""
        self._batches.append(batch)

    def contents(self) -> tuple[npt.NDArray[np.int16], pa.Table]:
        """All codes and columns."""
        return self._codes[: self._used], pa.Table.from_batches(self._batches)


@dataclass(frozen=True)
class Parts:
    """All that a store is made of. Arrays of rows are in the order of the ids; equal ids stay in reading order."""

    n_codebooks: int
    code_range: tuple[int, int]
    """Smallest and largest code; zeros where there is none."""
    text_bytes: int
    """UTF-8 bytes of all texts, at least one per row."""
    digest: str
    """sha256 of ids, texts and lengths."""
    lengths: IntArray
    """Frames of each row."""
    offsets: IntArray
    """Where each row begins in `codes`."""
    places: IntArray
    """Where each row is in `columns`."""
    codes: npt.NDArray[np.int16]
    columns: pa.Table


@dataclass
class Gathered:
    """Figures of what has been read, in reading order."""

    rows: int = 0
    codes: int = 0
    n_codebooks: int = 0
    code_range: tuple[int, int] = (0, 0)
    text_bytes: int = 0
    frames: list[IntArray] = field(default_factory=list)


def gather(paths: Sequence[str], columns: ColumnTypes, sink: Sink) -> Gathered:
    """Read all files into `sink`. ValueError names the file that has ragged codes or columns of other types."""
    found, pending = Gathered(), _Pending(sink)
    for path in paths:
        for batch in read_batches(path, columns):
            if len(batch):
                sink.add_codes(_add_codes(found, path, batch["codes"]))
                pending.add(path, _add_columns(found, path, batch, columns))
    pending.flush()
    pa.default_memory_pool().release_unused()  # what was read, which Arrow would keep for the next reading
    if not found.rows:
        raise ValueError(f"the {len(paths)} files to train on hold no row, the first is {paths[0]}")
    return found


def _add_codes(found: Gathered, path: str, codes: pa.Array) -> npt.NDArray[np.int16]:
    values, levels, frames = flatten(path, codes)
    codebooks = set(np.unique(levels).tolist())
    if codebooks - {found.n_codebooks or next(iter(codebooks))}:
        raise ValueError(f"{path}: rows of {sorted(codebooks)} codebooks among rows of {found.n_codebooks}")
    found.n_codebooks = next(iter(codebooks))
    if len(values):
        ends = [int(values.min()), int(values.max()), *(found.code_range if found.codes else ())]
        found.code_range = min(ends), max(ends)
    found.codes += len(values)
    found.frames.append(frames)
    return values


def _add_columns(found: Gathered, path: str, batch: pa.RecordBatch, columns: ColumnTypes) -> pa.RecordBatch:
    if "id" in batch.schema.names:
        ids = batch["id"].cast(held_as(batch["id"].type))
    else:
        names = (f"{Path(path).name}:{found.rows + row}" for row in range(len(batch)))
        ids = pa.array(names, pa.large_string())
    texts = batch["text"].cast(held_as(batch["text"].type))
    if not (pa.types.is_large_string(ids.type) or pa.types.is_integer(ids.type)):
        raise ValueError(f"{path}: id is {ids.type}: must be a string")
    if ids.null_count:
        raise ValueError(f"{path}: {ids.null_count} rows have no id")
    if not pa.types.is_large_string(texts.type):
        raise ValueError(f"{path}: text is {texts.type}: must be a string")
    text_bytes = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
    found.text_bytes += int(np.maximum(text_bytes, 1).sum())
    found.rows += len(batch)
    others = {name: _column(path, batch, name, kind) for name, kind in columns.items()}
    return pa.RecordBatch.from_pydict({"id": ids, "text": texts, **others})


def _column(path: str, batch: pa.RecordBatch, name: str, kind: pa.DataType) -> pa.Array:
    if name not in batch.schema.names:
        return pa.nulls(len(batch), kind)
    try:
        return batch[name].cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{path}: {name} is {batch[name].type}, but {kind} in the files before") from error


class _Pending:
    """Joins small batches, so that a file of many millions of rows has few."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0
        self._schema: pa.Schema | None = None

    def add(self, path: str, batch: pa.RecordBatch) -> None:
        """ValueError names a column of another type than in the files before."""
        self._schema = self._schema or batch.schema
        for name, wanted, given in zip(
            batch.schema.names, self._schema.types, batch.schema.types, strict=True
        ):
            if given != wanted:
                raise ValueError(f"{path}: {name} is {given}, but {wanted} in the files before")
        self._batches.append(batch)
        self._rows, self._bytes = self._rows + len(batch), self._bytes + batch.nbytes
        if self._rows >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand on what has gathered."""
        if self._batches:
            for batch in pa.Table.from_batches(self._batches).combine_chunks().to_batches():
                self._sink.add_columns(batch)
        self._batches, self._rows, self._bytes = [], 0, 0


def finish(found: Gathered, codes: npt.NDArray[np.int16], columns: pa.Table) -> Parts:
    """Sort by id as Python sorts: strings by code point, which is the order of their UTF-8 bytes."""
    order = pc.sort_indices(columns["id"]).to_numpy().astype(np.int64)
    in_reading_order = np.concatenate(found.frames)
    sizes, lengths = in_reading_order * found.n_codebooks, in_reading_order[order]
    return Parts(
        n_codebooks=found.n_codebooks,
        code_range=found.code_range,
        text_bytes=found.text_bytes,
        digest=_digest(columns, order, lengths),
        lengths=lengths,
        offsets=(np.cumsum(sizes) - sizes)[order],
        places=order,
        codes=codes,
        columns=columns,
    )


def _digest(columns: pa.Table, order: IntArray, lengths: IntArray) -> str:
    """sha256 of `json.dumps([ids, texts, lengths], ensure_ascii=False)`, without that string in memory."""
    ids = (take(columns["id"], places).to_pylist() for places in _blocks(order))
    texts = (take(columns["text"], places).fill_null("").to_pylist() for places in _blocks(order))
    frames = (block.tolist() for block in _blocks(lengths))
    found = hashlib.sha256()
    for lead, blocks in (("[[", ids), ("], [", texts), ("], [", frames)):
        for block in blocks:
            found.update(f"{lead}{json.dumps(block, ensure_ascii=False)[1:-1]}".encode())
            lead = ", "
    found.update(b"]]")
    return found.hexdigest()


def _blocks(values: IntArray) -> Iterator[IntArray]:
    return (values[first : first + _BLOCK] for first in range(0, len(values), _BLOCK))


def take(column: pa.ChunkedArray, places: IntArray) -> pa.Array:
    """Rows of a column. (Arrow's own `take` of strings first joins all chunks, every time.)"""
    ends = np.cumsum([len(chunk) for chunk in column.chunks])
    chunks = np.searchsorted(ends, places, side="right")
    by_chunk = np.argsort(chunks, kind="stable")
    parts = []
    for chunk, first, last in _runs(chunks[by_chunk]):
        begin = ends[chunk] - len(column.chunk(chunk))
        parts.append(column.chunk(chunk).take(pa.array(places[by_chunk[first:last]] - begin)))
    back = np.empty_like(by_chunk)
    back[by_chunk] = np.arange(len(back))
    return pa.concat_arrays(parts).take(pa.array(back))


def _runs(values: IntArray) -> Iterable[tuple[int, int, int]]:
    """(value, first, last) of each run of equal values."""
    bounds = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return ((int(values[first]), first, last) for first, last in pairwise(bounds))
