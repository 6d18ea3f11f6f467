"""Appending to a dataset: recordings are committed exactly once, however often a job is killed.

Of two jobs that offer the same recordings, the later one drops those that the earlier one committed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.head import MAX_CONFLICTS, Head
from catalog.holders import Holders, keys_of
from catalog.recordings import hashed
from catalog.schema import SPLITS, Shard
from catalog.shards import read_columns, without_recordings

_COMMITTED = ("recording_id", "source_digest", "source_stat")
_THREADS = 16


class Appender:
    """Plans against one version of a dataset and appends to the newest. Not thread-safe."""

    def __init__(self, dataset: Dataset) -> None:
        self.uri = dataset.uri
        self._head = Head(dataset)
        self._storage = dataset.storage
        self._is_planned = False
        self._taken: set[str] = set()  # recordings that other jobs committed since the plan
        self._retry: frozenset[str] = frozenset()
        self._again: set[str] = set()  # recordings rejected for a reason in `_retry`, not yet replaced
        self._replaced: set[str] = set()  # recordings whose old rows were replaced here
        self._holders = Holders(dataset.storage)

    @staticmethod
    def open(uri: str | Path) -> Appender:
        """An appender to the dataset at `uri`. Raises JobError if there is none."""
        return Appender(Dataset.open(uri))

    @property
    def dataset(self) -> Dataset:
        """The version that the last append, or the plan, reached."""
        return self._head.dataset

    def committed(self, retry: Collection[str] = ()) -> pa.Table:
        """`recording_id, source_digest, source_stat` of what a job need not do again, one row per recording.

        Recordings with a row rejected for a reason in `retry` are left out: they are to be done again.
        """
        self._is_planned = True
        self._taken.clear()
        self._replaced.clear()
        rows = (
            self.dataset.read(_COMMITTED)
            .group_by("recording_id")
            .aggregate([("source_digest", "max"), ("source_stat", "max")])
            .rename_columns(list(_COMMITTED))
        )
        self._plan_retry(retry)
        if not retry:
            return rows
        again = pa.array(sorted(self._again), pa.string())
        return rows.filter(pc.invert(pc.is_in(rows["recording_id"], value_set=again)))

    def append(self, shards: Sequence[Shard], retry: Collection[str] = (), replace: bool = False) -> int:
        """Commit files in one version and return its number; a file already in the table is not added twice.

        The appender must have read `committed()`: what other jobs commit after that wins over the same recordings
        here, whose rows are dropped (the file is rewritten). All files of one recording belong in one call. With
        `retry`, every row of the offered recordings that were rejected for one of these reasons is replaced; which
        ones is read once, by `committed(retry)` or the first such append. With `replace`, every row that the plan had
        of any offered recording is replaced. Either way a recording is replaced once. Raises JobError.
        """
        if self._head.files and not self._is_planned:
            raise RuntimeError(
                "append needs an appender that read committed(): others may have done these recordings"
            )
        for shard in shards:
            self._refuse_foreign(shard)
        self._is_planned = True
        if retry and frozenset(map(str, retry)) != self._retry:
            self._plan_retry(retry)
        pending = list(shards)
        for _ in range(MAX_CONFLICTS):
            pending = self._drop_taken([shard for shard in pending if shard.path not in self._head.files])
            if not pending:
                return self._head.version
            again = self._to_replace(pending, bool(retry), replace)
            carved, replaced = self._carve(again, pending[0].run_id)
            self._refuse_gone(pending)
            if self._head.commit(pending, carved, replaced, job="prepare"):
                self._again -= again
                self._replaced |= again
                return self._head.version
            own = {shard.path for shard in pending}
            self._taken |= self._ids([shard for shard in self._head.refresh() if shard.path not in own])
            self._head.discard(carved)
        raise JobError(
            f"{self.uri}: {MAX_CONFLICTS} conflicts with other jobs in a row; run again when they are done"
        )

    def _refuse_foreign(self, shard: Shard) -> None:
        if shard.codec_digest != self._head.identity.codec.digest:
            made_by = self._head.identity.codec.name
            raise JobError(f"{shard.path}: made with another codec than the dataset's {made_by}")
        for difference in self._head.identity.column_differences(shard.column_digests):
            raise JobError(f"{shard.path}: {difference}")
        if shard.split not in SPLITS:
            raise ValueError(f"{shard.path}: split is {shard.split!r}, must be one of {', '.join(SPLITS)}")

    def _refuse_gone(self, shards: Sequence[Shard]) -> None:
        """A commit of a file that is not there would lose its recordings for good."""
        with ThreadPoolExecutor(_THREADS) as pool:
            there = pool.map(self._storage.exists, [shard.path for shard in shards])
            gone = [shard.path for shard, is_there in zip(shards, there, strict=True) if not is_there]
        if gone:
            raise JobError(
                f"{self.uri}/{gone[0]}: was deleted before it could be committed ({len(gone)} of {len(shards)} files): "
                "the dataset was removed or replaced, or a machine whose clock is wrong took them for abandoned; "
                "run the job again"
            )

    def _plan_retry(self, retry: Collection[str]) -> None:
        self._retry = frozenset(map(str, retry))
        self._again = self._rejected_for(retry) if retry else set()

    def _rejected_for(self, reasons: Collection[str]) -> set[str]:
        rows = self.dataset.read(["recording_id", "reason"], "rejected")
        chosen = pc.is_in(rows["reason"], value_set=pa.array(sorted(map(str, reasons)), pa.string()))
        return set(rows["recording_id"].filter(chosen).to_pylist())

    def _to_replace(self, pending: Sequence[Shard], retry: bool, replace: bool) -> set[str]:
        """The offered recordings with rows in the table that the new ones take the place of."""
        if not (replace or (retry and self._again)):
            return set()
        self._holders.follow(self._head.files.values())
        chosen = set()
        for shard in pending:
            if self._holders.held(keys_of(self._storage, shard)).size:
                offered = self._ids([shard])
                chosen |= offered & self._again if retry else set()
                chosen |= self._held(offered - self._replaced) if replace else set()
        return chosen

    def _held(self, recordings: set[str]) -> set[str]:
        names = sorted(recordings)
        keys = hashed(names)
        is_held = np.isin(keys, self._holders.held(keys))
        return {name for name, held in zip(names, is_held, strict=True) if held}

    def _carve(self, again: set[str], run_id: str) -> tuple[list[Shard], list[Shard]]:
        """New files without the recordings being replaced, and the files that these take the place of."""
        carved, replaced = [], []
        for path in sorted(self._holders.paths(hashed(sorted(again))) if again else ()):
            if path not in self._head.files:
                continue
            shard = self._head.files[path]
            rest = without_recordings(self._storage, shard, again, run_id, self._head.identity)
            if rest is not shard:
                replaced.append(shard)
                carved += [rest] if rest else []
        return carved, replaced

    def _drop_taken(self, pending: Sequence[Shard]) -> list[Shard]:
        if not self._taken:
            return list(pending)
        kept, taken = [], hashed(sorted(self._taken))
        for shard in pending:
            if not np.isin(keys_of(self._storage, shard), taken).any():
                kept.append(shard)
                continue
            rest = without_recordings(self._storage, shard, self._taken, shard.run_id, self._head.identity)
            kept += [rest] if rest else []
            if rest is not shard:
                self._head.discard([shard])
        return kept

    def _ids(self, shards: Sequence[Shard]) -> set[str]:
        return set(read_columns(self._storage, shards, ["recording_id"])["recording_id"].to_pylist())
