"""Files whose rows are lost: found, taken out of the log, set aside.

The log remembers what left the table this way, so whoever repairs a dataset can be killed at any point: the recordings
of those files that no later version has again are what is left to do. A recording is committed whole or not at all,
so its rows in sound files leave with those that are lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import MAX_CONFLICTS, Head
from catalog.holders import Holders, keys_of
from catalog.log import all_changes
from catalog.recordings import hashed, key_bytes, numbers, recording_key, unpack_keys
from catalog.runs import marked_run
from catalog.schema import Shard
from catalog.shards import damage, read_columns, without_recordings
from catalog.storage import Storage

JOB = "repair"
_FOLDER = "_corrupt"


@dataclass(frozen=True)
class Lost:
    """A file that a repair took out of the log."""

    shard: Shard
    carried: bool
    """Its rows are from older files, so perhaps from other runs than its own."""
    keys: frozenset[bytes]
    """Of its recordings."""
    names: Mapping[bytes, str]
    """Their ids, as far as the file can still be read."""

    @property
    def is_known(self) -> bool:
        """True if the keys are complete: a log of an older dataset has none, and the file may not say them."""
        return bool(self.shard.recording_keys) or len(self.keys) == self.shard.recordings > 0


def find(dataset: Dataset) -> dict[str, str]:
    """Faults of files that are missing or not what was committed, by path. Reads every byte."""
    found = {shard.path: damage(dataset.storage, shard) for shard in dataset.shards()}
    return {path: what for path, what in found.items() if what}


def describe(dataset: Dataset, paths: Iterable[str]) -> list[Lost]:
    """Contents of files of the version, from the log where it says them, else from their rows."""
    shards = {shard.path: shard for shard in dataset.shards()}
    return [_lost(dataset.storage, shards[path], carried=False) for path in paths]


def take_out(dataset: Dataset, paths: Iterable[str]) -> Dataset:
    """Take damaged files out of the log, and the other rows of their recordings with them, in one commit.

    Returns the version after it.
    """
    doomed = set(paths)
    if not doomed:
        return dataset
    head = Head(dataset)
    with marked_run(dataset) as run_id:
        for _ in range(MAX_CONFLICTS):
            damaged = [shard for path, shard in head.files.items() if path in doomed]
            if not damaged:
                return head.dataset
            carved, replaced = _carve(head.dataset, damaged, run_id)
            if head.commit([], carved, [*damaged, *replaced], job=JOB):
                return head.dataset
            head.refresh()
            head.discard(carved)
    raise JobError(
        f"{dataset.uri}: {MAX_CONFLICTS} conflicts with other jobs in a row; repair when they are done"
    )


def lost(dataset: Dataset) -> list[Lost]:
    """The files that repairs took out of the log since the dataset was started (over)."""
    added: dict[str, tuple[Shard, bool]] = {}
    found: dict[str, tuple[Shard, bool]] = {}
    for change in all_changes(dataset.storage):
        added.update({path: (shard, path in change.carried) for path, shard in change.added.items()})
        if change.info.get("job") == "restart":
            found.clear()
        if change.info.get("job") == JOB:
            found.update({path: added[path] for path in change.removed if path in added})
    return [_lost(dataset.storage, shard, carried) for shard, carried in found.values()]


def set_aside(dataset: Dataset, gone: Iterable[Lost]) -> None:
    """Move what is left of the damaged files to `_corrupt/`. Sound files stay: older versions have them."""
    present = dataset.storage.listing()
    for one in gone:
        path = one.shard.path
        if path in present and damage(dataset.storage, one.shard):
            dataset.storage.move(path, f"{_FOLDER}/{path}")


def unfinished(dataset: Dataset, gone: Iterable[Lost]) -> frozenset[bytes]:
    """Keys of the recordings of lost files that the version does not have (again)."""
    have = [keys_of(dataset.storage, shard) for shard in dataset.shards()]
    wanted = frozenset(key for one in gone for key in one.keys)
    return wanted - set(key_bytes(np.unique(np.concatenate(have)))) if have else wanted


def _carve(dataset: Dataset, damaged: Sequence[Shard], run_id: str) -> tuple[list[Shard], list[Shard]]:
    """New sound files without the recordings of damaged ones, and the files that these take the place of."""
    sound = [shard for shard in dataset.files if shard not in damaged]
    lost_here = (_lost(dataset.storage, shard, carried=False) for shard in damaged)
    keys = np.unique(numbers(key for one in lost_here for key in one.keys))
    holders = Holders(dataset.storage)
    holders.follow(sound)
    paths = holders.paths(keys)
    carved, replaced = [], []
    for shard in (shard for shard in sound if shard.path in paths):
        ids = read_columns(dataset.storage, [shard], ["recording_id"])["recording_id"]
        again = set(ids.filter(pa.array(np.isin(hashed(ids), keys))).to_pylist())
        rest = without_recordings(dataset.storage, shard, again, run_id, dataset.identity)
        if rest is not shard:
            replaced.append(shard)
            carved += [rest] if rest else []
    return carved, replaced


def _lost(storage: Storage, shard: Shard, carried: bool) -> Lost:
    names = {recording_key(name): name for name in _readable_ids(storage, shard.path)}
    if shard.recording_keys:
        keys = frozenset(key_bytes(unpack_keys(shard.recording_keys)))
        # What is read from a damaged file may be damaged: only ids with a key of the log are believed.
        names = {key: name for key, name in names.items() if key in keys}
        return Lost(shard, carried, keys, names)
    return Lost(shard, carried, frozenset(names), names)


def _readable_ids(storage: Storage, path: str) -> set[str]:
    for place in (path, f"{_FOLDER}/{path}"):
        try:
            file = pq.ParquetFile(pa.BufferReader(storage.read(place)), page_checksum_verification=True)
            read = file.read(["recording_id"], use_threads=False)  # see catalog.shards
            return set(read["recording_id"].drop_null().to_pylist())
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            continue  # missing or moved, or damaged where the ids are
    return set()
