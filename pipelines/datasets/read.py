"""Rows of a dataset version, streamed: some columns, some rows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.schema import SCHEMA, Shard


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
