"""Token columns for files that were committed without them: rewritten one by one, each in a commit of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial

import pyarrow as pa

from catalog.columns import fill, lacking
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.identity import Columns
from catalog.schema import Shard
from pipelines.execution.ray_stream import RecordingBatch, Step, stream

_SHOWN = 5


def files_to_fill(dataset: Dataset, columns: Columns) -> list[Shard]:
    """Files of accepted rows that lack one of the columns."""
    paths = {shard.path: shard for column in columns for shard in lacking(dataset, column)}
    return [paths[path] for path in sorted(paths)]


def fill_columns(uri: str, columns: Columns, step: Step, run_id: str, say: Callable[[str], None]) -> int:
    """Give every file the token columns that `step` makes; returns how many were rewritten.

    Files that another job rewrites meanwhile are taken again. JobError, once all others are done, if recordings cannot
    be read as they were.
    """
    filled, problems = 0, {}
    while todo := [one for one in files_to_fill(Dataset.open(uri), columns) if one.path not in problems]:
        head = Head(Dataset.open(uri))
        with closing(stream(partial(_batches, todo), [step])) as results:
            for index, _, table in results:
                shard = todo[index]
                if problem := next(filter(None, table["problem"].to_pylist()), None):
                    problems[shard.path] = problem
                    if len(problems) <= _SHOWN:
                        say(f"{shard.path} keeps no token columns: {problem}")
                    continue
                absent = columns.keys() - shard.column_digests.keys()
                values = {name: table[name].combine_chunks() for name in sorted(absent)}
                filled += fill(head, shard, values, run_id, "prepare")
    if problems:
        raise JobError(
            f"{uri}: {len(problems)} files still lack token columns, since recordings of theirs cannot be read as they "
            f"were: {next(iter(problems.values()))}; the same command takes them up again"
        )
    return filled


def _batches(shards: Sequence[Shard]) -> Iterator[RecordingBatch]:
    for index, shard in enumerate(shards):
        row = pa.table({"shard": [json.dumps(dataclasses.asdict(shard))]})
        yield RecordingBatch(index, hashlib.sha256(shard.path.encode()).hexdigest(), row)
