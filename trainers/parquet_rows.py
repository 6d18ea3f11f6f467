"""Training rows as they stand in Parquet files: which columns they need, and codes as flat int16.

Needs only pyarrow and numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from catalog.codes import flat

_ROWS_AT_ONCE = 1024


class FlatCodes(NamedTuple):
    """Codes of several rows, one after the other, each (n_codebooks, frames) in C order."""

    values: npt.NDArray[np.int16]
    levels: npt.NDArray[np.int64]
    """Codebooks of each row."""
    frames: npt.NDArray[np.int64]
    """Frames of each row."""


class Sizes(NamedTuple):
    """Memory that a file's rows take."""

    codes: int
    """Number of int16."""
    columns_bytes: int


def open_parquet(path: str) -> pq.ParquetFile:
    """A file of training rows, local or by URI. ArrowInvalid (a ValueError) if it is no Parquet file."""
    filesystem, name = pa.fs.FileSystem.from_uri(path) if "://" in path else (pa.fs.LocalFileSystem(), path)
    try:
        file = pq.ParquetFile(filesystem.open_input_file(name))
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"{path} is not a readable Parquet file: {error}") from error
    missing = {"text", "codes"} - set(file.schema_arrow.names)
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(sorted(missing))}: a training row needs text and codes"
        )
    return file


def unreadable(path: str) -> str | None:
    """Why a file of training rows cannot be read to its end, or None. ValueError if it is whole, but holds others."""
    try:
        for _ in read_batches(path, ()):
            pass
    except (OSError, pa.ArrowInvalid) as error:
        return " ".join(str(error).split())
    return None


def read_batches(path: str, columns: Iterable[str]) -> Iterator[pa.RecordBatch]:
    """Rows of a file: `codes`, `text`, and those of `id` and `columns` that it has."""
    with open_parquet(path) as file:
        wanted = dict.fromkeys(("id", "text", "codes", *columns))
        present = [name for name in wanted if name in file.schema_arrow.names]
        yield from file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=present)


def column_types(
    paths: Sequence[str], columns: Sequence[str], nullable: Sequence[str]
) -> dict[str, pa.DataType]:
    """Types of columns, from the first file that has each: a file without it has nulls.

    ValueError names one of `columns` that no file has; of `nullable`, which are strings, none need be there.
    """
    found: dict[str, pa.DataType] = {}
    wanted = [name for name in dict.fromkeys((*columns, *nullable)) if name not in ("id", "text", "codes")]
    for path in paths:
        if len(found) == len(wanted):
            break
        with open_parquet(path) as file:
            schema = file.schema_arrow
            for name in wanted:
                if name in schema.names and not pa.types.is_null(schema.field(name).type):
                    found.setdefault(name, held_as(schema.field(name).type))
    missing = [name for name in columns if name in wanted and name not in found]
    if missing:
        others = f", nor have the {len(paths) - 1} others" if len(paths) > 1 else ""
        raise ValueError(f"{paths[0]} has no column {', '.join(missing)}, which this training reads{others}")
    return {name: found.get(name, pa.large_string()) for name in wanted}


def held_as(kind: pa.DataType) -> pa.DataType:
    """Without dictionaries, strings with 64-bit offsets."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    strings = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    return pa.large_string() if any(is_kind(kind) for is_kind in strings) else kind


def sizes_of(path: str, columns: Iterable[str]) -> Sizes:
    """Read from the footer (a Parquet leaf value may be stored in less than an int16, so codes are counted)."""
    with open_parquet(path) as file:
        metadata = file.metadata
        leaves = [metadata.schema.column(i).path.split(".")[0] for i in range(metadata.num_columns)]
        if leaves.count("codes") != 1:
            raise ValueError(
                f"{path}: codes is {file.schema_arrow.field('codes').type}, not a list of lists of integers"
            )
        chunks = [
            (name, metadata.row_group(group).column(leaf))
            for group in range(metadata.num_row_groups)
            for leaf, name in enumerate(leaves)
        ]
        codes = sum(chunk.num_values for name, chunk in chunks if name == "codes")
        others = {"id", "text", *columns} - {"codes"}
        return Sizes(codes, sum(chunk.total_uncompressed_size for name, chunk in chunks if name in others))


def flatten(path: str, codes: pa.ListArray) -> FlatCodes:
    """Flat codes of rows that are rectangles. ValueError names the file for any other, or for codes beyond int16."""
    values, levels, per_level = flat(codes)
    starts = np.cumsum(levels) - levels
    frames = np.zeros(len(levels), dtype=np.int64)
    frames[levels > 0] = per_level[starts[levels > 0]]
    if not np.array_equal(np.repeat(frames, levels), per_level) or (levels == 0).any():
        raise ValueError(
            f"{path}: codes of a row must be a rectangle (n_codebooks, frames) of at least one codebook"
        )
    if len(values) and (values.min() < -(2**15) or values.max() >= 2**15):
        raise ValueError(f"{path}: codes range from {values.min()} to {values.max()}, beyond int16")
    return FlatCodes(values.astype(np.int16, copy=False), levels, frames)
