"""Index from recordings to files, by the keys in the log: files are read only where an older log has none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from catalog.command import JobError
from catalog.recordings import Keys, hashed, unpack_keys
from catalog.schema import Shard
from catalog.shards import read_columns
from catalog.storage import Storage

_MERGE_FILES = 64


def keys_of(storage: Storage, shard: Shard) -> Keys:
    """Sorted keys of the file's recordings. Raises JobError where neither the log nor the file says."""
    if not shard.recording_keys:
        return np.unique(hashed(read_columns(storage, [shard], ["recording_id"])["recording_id"]))
    try:
        return unpack_keys(shard.recording_keys)
    except ValueError as error:
        raise JobError(f"{storage.uri}/{shard.path}: its recording_keys in the log are damaged") from error


def count_recordings(storage: Storage, shards: Sequence[Shard]) -> int:
    """Distinct recordings of the files: one with rows in two splits counts once."""
    keys = [keys_of(storage, shard) for shard in shards]
    return int(np.unique(np.concatenate(keys)).size) if keys else 0


class Holders:
    """An index from recordings to the files that hold them. Files never change, so each is looked at once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._paths: list[str] = []
        self._known: set[str] = set()
        self._keys: Keys = np.empty(0, np.uint64)
        self._owners: NDArray[np.int64] = np.empty(0, np.int64)
        self._late: list[tuple[int, Keys]] = []  # not yet merged into the sorted arrays

    def follow(self, shards: Iterable[Shard]) -> None:
        """Take in the files that are new. Those that left the table stay, and are the caller's to leave out."""
        for shard in shards:
            if shard.path not in self._known:
                self._late.append((len(self._paths), keys_of(self._storage, shard)))
                self._known.add(shard.path)
                self._paths.append(shard.path)
        if len(self._late) >= _MERGE_FILES:
            self._merge()

    def paths(self, keys: Keys) -> set[str]:
        """The files that hold a recording of one of these keys."""
        first, after = self._range(keys)
        owners = {owner for owner, theirs in self._late if np.isin(keys, theirs).any()}
        for start, end in zip(first[first < after], after[first < after], strict=True):
            owners.update(self._owners[start:end].tolist())
        return {self._paths[owner] for owner in owners}

    def held(self, keys: Keys) -> Keys:
        """Those of the keys that some file holds."""
        first, after = self._range(keys)
        found = first < after
        for _, theirs in self._late:
            found |= np.isin(keys, theirs)
        return keys[found]

    def _range(self, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        return np.searchsorted(self._keys, keys, "left"), np.searchsorted(self._keys, keys, "right")

    def _merge(self) -> None:
        keys = np.concatenate([self._keys, *(keys for _, keys in self._late)])
        owners = [np.full(keys.size, owner, np.int64) for owner, keys in self._late]
        order = np.argsort(keys, kind="stable")
        self._keys, self._owners = keys[order], np.concatenate([self._owners, *owners])[order]
        self._late = []
