"""Rows of a dataset version, streamed: some columns, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.schema import SCHEMA, Shard

Matrix = npt.NDArray[np.int16]
"""Codes of one row as stored, (Q, T)."""


def batches(
    dataset: Dataset, shards: Sequence[Shard], columns: Sequence[str] = SCHEMA.names, rows: int = 256
) -> Iterator[pa.Table]:
    """At most `rows` rows at a time, in the order of the files. Raises JobError for a file that cannot be read."""
    for shard in shards:
        try:
            with dataset.storage.open(shard.path) as opened:
                file = pq.ParquetFile(opened)
                for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
        except (pa.ArrowException, OSError) as error:
            why = "the file is missing" if isinstance(error, FileNotFoundError) else error
            raise JobError(
                f"{dataset.uri}/{shard.path}: cannot be read: {why}; `catalog verify` names all"
            ) from error


def matrices(codes: pa.ChunkedArray) -> list[Matrix | None]:
    """Each row of a `codes` column as (Q, T) without a copy; None for a null, and where the levels differ in T."""
    found: list[Matrix | None] = []
    for chunk in codes.chunks:
        outer = chunk.offsets.to_numpy()
        inner = chunk.values.offsets.to_numpy()
        values = chunk.values.values.to_numpy(zero_copy_only=False)
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        for row in range(len(chunk)):
            bounds = inner[outer[row] : outer[row + 1] + 1]
            frames = np.diff(bounds)
            whole = valid[row] and len(frames) > 0 and (frames == frames[0]).all()
            found.append(values[bounds[0] : bounds[-1]].reshape(len(frames), -1) if whole else None)
    return found
