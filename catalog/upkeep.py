"""Maintenance of a dataset: verify, compact, vacuum, history. Each is an explicit command."""

from __future__ import annotations

import itertools
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from catalog.command import UsageError
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.log import all_changes, apply
from catalog.recordings import Keys, hashed
from catalog.runs import delete_abandoned, marked_run
from catalog.schema import SPLITS, Shard
from catalog.shards import check_shard, read_columns, read_shard, run_id_of, stated_columns, write_part

DEFAULT_RETENTION_H = 7 * 24.0
DEFAULT_TARGET_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Problem:
    """A fault of one file (path relative to the table; "" for the dataset as a whole)."""

    path: str
    what: str


def verify(dataset: Dataset) -> list[Problem]:
    """Read every byte of the version: digests, pages, rows, codec, shapes, recordings and the uniqueness of ids."""
    return list(problems(dataset))


def problems(dataset: Dataset) -> Iterator[Problem]:
    """The problems of `verify`, one by one. In memory are one file and eight bytes an id."""
    keys, readable = [], []
    for shard in dataset.shards():
        found, rows = check_shard(dataset.storage, shard, dataset.identity)
        yield from (Problem(shard.path, what) for what in found)
        if rows is not None:
            readable.append(shard)
            keys.append(hashed(rows["id"].drop_null()))
    for name in _repeated(dataset, readable, keys):
        yield Problem("", f"id {name} is there more than once")


def missing_files(dataset: Dataset) -> list[Problem]:
    """Files of the version that are not there, or not of the size that the log says: no file is opened."""
    present = dataset.storage.listing()
    found = []
    for shard in dataset.shards():
        if shard.path not in present:
            found.append(Problem(shard.path, "the file is missing"))
        elif present[shard.path].size_bytes != shard.size_bytes:
            size = present[shard.path].size_bytes
            found.append(Problem(shard.path, f"{size} bytes, the log says {shard.size_bytes}"))
    return found


def _repeated(dataset: Dataset, shards: Sequence[Shard], keys: Sequence[Keys]) -> list[str]:
    """Ids that occur twice, in the order of their names; only files with a suspect are read again."""
    ordered = np.sort(np.concatenate(keys)) if keys else np.empty(0, np.uint64)
    suspects = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    counts: Counter[str] = Counter()
    for shard, theirs in zip(shards, keys, strict=True) if suspects.size else ():
        if np.isin(theirs, suspects).any():
            ids = read_columns(dataset.storage, [shard], ["id"])["id"].drop_null()
            counts.update(ids.filter(pa.array(np.isin(theirs, suspects))).to_pylist())
    return sorted(name for name, count in counts.items() if count > 1)


@dataclass(frozen=True)
class Compaction:
    """Files before and after; `skipped` groups were changed by another job meanwhile."""

    version: int
    files_before: int
    files_after: int
    skipped: int


def compact(dataset: Dataset, target_bytes: int = DEFAULT_TARGET_BYTES) -> Compaction:
    """Rewrite small files of a split into files of about `target_bytes`, one commit each, safe beside running jobs.

    Rows keep their order; old versions stay readable until `vacuum`. Raises JobError for a corrupt file.
    """
    if target_bytes < 1:
        raise UsageError(f"target size is {target_bytes} bytes, must be at least 1")
    head, skipped = Head(dataset), 0
    with marked_run(dataset) as run_id:
        for group in list(_groups(dataset, target_bytes)):
            rows = pa.concat_tables([read_shard(dataset.storage, shard) for shard in group])
            columns = stated_columns(group[0], dataset.identity)
            merged = write_part(dataset.storage, rows, group[0].split, run_id, dataset.codec, columns)
            skipped += 0 if head.swap(merged, group, job="compact") else 1
    return Compaction(head.version, len(dataset.files), len(head.files), skipped)


def vacuum(
    dataset: Dataset, retention_h: float = DEFAULT_RETENTION_H, dry_run: bool = False
) -> Mapping[str, object]:
    """Delete our files that left the table more than `retention_h` hours ago, and abandoned ones.

    Returns the number of files and bytes, and the versions that become (or, with `dry_run`, would become)
    unreadable. Files of other names are never touched.
    """
    if not 0 <= retention_h < math.inf:
        raise UsageError(f"retention is {retention_h} h, must be a number of at least 0")
    present = dataset.storage.listing()
    newest = {shard.path for shard in Dataset.open(dataset.uri).shards()}
    latest_ms = (time.time() - retention_h * 3600) * 1000
    removed = {path: when for change in all_changes(dataset.storage) for path, when in change.removed.items()}
    old = {path for path, when in removed.items() if when <= latest_ms and run_id_of(path)} - newest
    doomed = old & present.keys()
    versions = [
        version for version, files in _versions(dataset) if files <= present.keys() and files & doomed
    ]
    for path in [] if dry_run else doomed:
        dataset.storage.delete(path)
    abandoned = delete_abandoned(dataset, dry_run)
    return {
        "dataset": dataset.uri,
        "dry_run": dry_run,
        "files": len(doomed) + len(abandoned),
        "bytes": sum(present[path].size_bytes for path in (*doomed, *abandoned) if path in present),
        "unreadable_versions": versions,
    }


def history(dataset: Dataset) -> list[Mapping[str, object]]:
    """One mapping a version, oldest first: when, what, by which run, and whether its files are all still there."""
    present = dataset.storage.listing().keys()
    files: dict[str, Shard] = {}
    entries: list[Mapping[str, object]] = []
    for change in all_changes(dataset.storage):
        apply(files, change)
        entries.append(
            {
                "version": change.version,
                "time": time.strftime(
                    "%Y-%m-%dT%H:%M:%SZ", time.gmtime(change.info.get("timestamp", 0) / 1000)
                ),
                "job": change.info.get("job") or change.info.get("operation", ""),
                "run_id": change.info.get("run_id", ""),
                "added": len(change.added),
                "removed": len(change.removed),
                "rows": sum(shard.rows for shard in files.values()),
                "readable": files.keys() <= present,
            }
        )
    return entries


def _versions(dataset: Dataset) -> Iterator[tuple[int, set[str]]]:
    files: dict[str, Shard] = {}
    for change in all_changes(dataset.storage):
        apply(files, change)
        yield change.version, set(files)


def _groups(dataset: Dataset, target_bytes: int) -> Iterator[list[Shard]]:
    """Neighbours of one split and the same token columns, each below half the target, that together about reach it."""
    small = [shard for shard in dataset.files if shard.size_bytes < target_bytes / 2]
    for split, columns in itertools.product(SPLITS, sorted({shard.columns for shard in small})):
        group: list[Shard] = []
        for shard in small:
            if (shard.split, shard.columns) != (split, columns):
                continue
            if group and sum(one.size_bytes for one in group) + shard.size_bytes > target_bytes:
                if len(group) > 1:
                    yield group
                group = []
            group.append(shard)
        if len(group) > 1:
            yield group
