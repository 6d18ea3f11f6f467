"""A dataset gets a further token column: first the property, then the schema, then rewritten files, commit by commit.

Whoever is killed on the way goes on with the same calls: the files that lack the column are what is left to do.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from catalog import table
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import MAX_CONFLICTS, Head
from catalog.schema import SCHEMA, Shard
from catalog.shards import read_shard, stated_columns, write_part
from catalog.token_columns import check_column, check_values
from models.identity import TokenIdentity


def declare(dataset: Dataset, column: str, identity: TokenIdentity) -> Dataset:
    """Let the dataset have a column of tokens or latents made by `identity`; returns the newest version.

    From then on every appended file must state that maker, and running jobs that do not are refused. A column that has
    this maker already is left as it is. Raises ValueError for a column that cannot hold them, JobError where another
    made it.
    """
    check_column(column, identity)
    for _ in range(MAX_CONFLICTS):
        newest = Dataset.open(dataset.uri)
        known = newest.identity.columns.get(column)
        if known is not None and known != identity:
            raise JobError(
                f"{newest.uri}: {column} is made by {known.source} (weights {known.weights_sha256[:12] or 'none'}), "
                f"not by {identity.source} (weights {identity.weights_sha256[:12] or 'none'})"
            )
        delta = table.load(newest.uri, newest.version)
        if known is None and not table.set_columns(
            delta, newest.uri, {**newest.identity.columns, column: identity}
        ):
            continue
        if table.lacks_columns(delta):
            table.add_columns(newest.uri)
        return Dataset.open(newest.uri)
    raise JobError(f"{dataset.uri}: {MAX_CONFLICTS} conflicts with other jobs in a row; stop them")


def lacking(dataset: Dataset, column: str) -> list[Shard]:
    """Files of accepted rows that do not have the column yet."""
    return [
        shard for shard in dataset.files if shard.split != "rejected" and column not in shard.column_digests
    ]


def fill(head: Head, shard: Shard, values: Mapping[str, pa.Array], run_id: str, job: str) -> bool:
    """Put a copy of a file with the values of further columns in its place, in one commit.

    `values` has one value per column and row of the file, null for rows without. False if another job took the file
    away meanwhile. Raises ValueError for values that break a rule, JobError.
    """
    rows, makers = read_shard(head.storage, shard), {}
    for column, cells in values.items():
        if column not in head.identity.columns:
            raise JobError(f"{head.uri}: has no column {column}; declare it first")
        makers[column] = head.identity.columns[column]
        if len(cells) != len(rows):
            raise ValueError(f"{shard.path}: {len(cells)} values of {column} for {len(rows)} rows")
        rows = rows.set_column(rows.column_names.index(column), SCHEMA.field(column), cells)
    for problem in check_values(rows, head.identity.codec, makers):
        raise ValueError(f"{shard.path}: {problem}")
    columns = {**stated_columns(shard, head.identity), **makers}
    new = write_part(head.storage, rows, shard.split, run_id, head.identity.codec, columns)
    return head.swap(new, [shard], job, changes_rows=True)
