"""A dataset: a Delta table of codec-tokenised speech, appended to exactly once however often a job is killed.

A file counts only when the log has it. Every commit carries the next number of one application transaction, so two
jobs conflict instead of duplicating; the later one drops the recordings that the earlier one committed.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from catalog.command import JobError
from catalog.identity import Identity
from catalog.log import active_files, add_action, apply, read_change, remove_action
from catalog.schema import SCHEMA, SPLITS, CodecIdentity, Shard
from catalog.shards import read_columns, without_recordings
from catalog.storage import Storage, canonical_uri, open_storage

# Each conflict means that another job got on, so this bounds how often one job can be overtaken, not how long it waits.
_MAX_CONFLICTS = 1000
_CONFIGURATION = {
    # Old commits say which unreferenced files are ours to delete and which versions can be read.
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "50",
}


@dataclass(frozen=True)
class Totals:
    """What a version holds: distinct recordings of all splits, accepted and rejected rows, hours of accepted audio."""

    recordings: int
    utterances: int
    rejected: int
    hours: float


class Dataset:
    """One version of a dataset, and the handle that appends to its newest version. Not thread-safe."""

    def __init__(self, table: Any, storage: Storage) -> None:
        self.storage = storage
        self.uri = storage.uri
        self._table = table
        self.identity = self._identity()
        self.codec = self.identity.codec
        self._files = active_files(storage, self.version)
        self._planned = False
        self._taken: set[str] = set()  # recordings that other jobs committed since the plan
        self._retry: frozenset[str] = frozenset()
        self._again: set[str] = set()  # recordings rejected for a reason in `_retry`, not yet replaced
        self._holders: dict[str, set[str]] = {}  # path -> which of `_again` it has; files never change

    @staticmethod
    def create(uri: str | Path, codec: CodecIdentity, settings: Mapping[str, Any]) -> Dataset:
        """Make an empty dataset, or open the one that is there.

        `settings` are those that change a row. Raises JobError if the existing dataset has another codec or other
        settings (naming each difference with both values), or if the folder holds something else.
        """
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        storage, identity = open_storage(uri), Identity(codec, settings)
        if not DeltaTable.is_deltatable(storage.uri):
            _refuse_place(storage)
            try:
                DeltaTable.create(
                    storage.uri,
                    _table_schema(),
                    partition_by=["split"],
                    configuration={**identity.to_configuration(), **_CONFIGURATION},
                    raise_if_key_not_exists=False,
                )
            except (DeltaError, OSError) as error:
                if not DeltaTable.is_deltatable(storage.uri):  # otherwise another job was first
                    raise JobError(f"{storage.uri}: cannot create a dataset: {error}") from error
        dataset = Dataset.open(uri)
        differences = dataset.identity.differences(identity)
        if differences:
            raise JobError(f"{dataset.uri}: made otherwise: {'; '.join(differences)}; give another output")
        return dataset

    @staticmethod
    def check_place(uri: str | Path) -> bool:
        """Whether a dataset is at `uri`; JobError where there is none and none can be made. Writes nothing."""
        from deltalake import DeltaTable

        storage = open_storage(uri)
        exists = bool(DeltaTable.is_deltatable(storage.uri))
        if not exists:
            _refuse_place(storage)
        return exists

    @staticmethod
    def open(uri: str | Path, version: int | None = None) -> Dataset:
        """The newest version, or an older one for reading. Raises JobError if it does not exist."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError

        location = canonical_uri(uri)
        if not DeltaTable.is_deltatable(location):
            raise JobError(f"{location}: no dataset there")
        try:
            newest = DeltaTable(location)
        except DeltaError as error:
            raise JobError(f"{location}: its log cannot be read: {_first_words(error)}") from error
        if version is not None and not 0 <= version <= newest.version():
            raise JobError(f"{location}: no version {version}; the newest is {newest.version()}")
        try:
            table = newest if version is None else DeltaTable(location, version=version)
        except DeltaError as error:
            raise JobError(f"{location}: version {version} cannot be read: {error}") from error
        dataset = Dataset(table, open_storage(location))
        if version is not None:
            dataset._refuse_vacuumed()
        return dataset

    @property
    def version(self) -> int:
        """The version that this handle reads."""
        return int(self._table.version())

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings that change a row."""
        return self.identity.settings

    @property
    def settings_digest(self) -> str:
        """sha256 of `settings`, hex."""
        return self.identity.settings_digest

    def shards(self, split: str | None = None) -> list[Shard]:
        """The files of a split (default: all), in the order they were committed."""
        if split is not None and split not in SPLITS:
            raise ValueError(f"split is {split!r}, must be one of {', '.join(SPLITS)}")
        return [shard for shard in self._files.values() if split in (None, shard.split)]

    def file_uris(self, split: str | None = None) -> list[str]:
        """Where the files are, for any Parquet reader: a directory listing is not the dataset."""
        return [f"{self.uri}/{shard.path}" for shard in self.shards(split)]

    def committed(self, retry: Collection[str] = ()) -> pa.Table:
        """`recording_id, source_digest` of what a job need not do again, one row a recording.

        Recordings with a row rejected for a reason in `retry` are left out: they are to be done again.
        """
        self._planned = True
        self._taken.clear()
        rows = self._recordings()
        self._plan_retry(retry)
        if not retry:
            return rows
        again = pa.array(sorted(self._again), pa.string())
        return rows.filter(pc.invert(pc.is_in(rows["recording_id"], value_set=again)))

    def totals(self) -> Totals:
        """Counted from the columns, so that a recording with rows in two splits counts once."""
        accepted = [shard for shard in self.shards() if shard.split != "rejected"]
        return Totals(
            recordings=self._recordings().num_rows,
            utterances=sum(shard.rows for shard in accepted),
            rejected=sum(shard.rows for shard in self.shards("rejected")),
            hours=sum(shard.seconds for shard in accepted) / 3600,
        )

    def append(self, shards: Sequence[Shard], remove: Sequence[str] = (), retry: Collection[str] = ()) -> int:
        """Commit files in one version and return it; a file already in the table is not added twice.

        The handle must have read `committed()`: what other jobs commit after that wins over the same recordings
        here, whose rows are dropped (the file is rewritten). All files of one recording belong in one call.
        `remove` names files to take out of the log in the same commit. With `retry`, every row of the offered
        recordings that were rejected for one of these reasons is replaced; which ones is read once, by
        `committed(retry)` or the first such append, and each is replaced once. Raises JobError.
        """
        if self._files and not self._planned:
            raise RuntimeError(
                "append needs a handle that read committed(): others may have done these recordings"
            )
        for shard in shards:
            self._refuse_foreign(shard)
        for path in remove:
            if path not in self._files:
                raise JobError(f"{self.uri}: version {self.version} has no file {path}")
        self._planned = True
        if retry and frozenset(map(str, retry)) != self._retry:
            self._plan_retry(retry)
        pending = list(shards)
        for _ in range(_MAX_CONFLICTS):
            pending = self._drop_taken([shard for shard in pending if shard.path not in self._files])
            removed = [self._files[path] for path in remove if path in self._files]
            again = self._again & self._ids(pending) if retry and self._again else set()
            carved, replaced = self._carve(pending, again, remove)
            if not pending and not removed:
                return self.version
            if self.commit(pending, carved, [*removed, *replaced], job="prepare"):
                self._again -= again
                return self.version
            own = {shard.path for shard in pending}
            self._taken |= self._ids([shard for shard in self.refresh() if shard.path not in own])
            self.discard(carved)
        raise JobError(
            f"{self.uri}: {_MAX_CONFLICTS} conflicts with other jobs in a row; run again when they are done"
        )

    def commit(
        self, added: Sequence[Shard], carried: Sequence[Shard], removed: Sequence[Shard], job: str
    ) -> bool:
        """One attempt at the next version; False (and nothing changed) if another job made it first.

        `carried` are new files of rows that `removed` held. Raises JobError if the log cannot be written.
        """
        from deltalake import CommitProperties, Transaction
        from deltalake.exceptions import CommitFailedError, DeltaError

        last = self._table.transaction_version("prepare")
        properties = CommitProperties(
            custom_metadata={"job": job, "run_id": next((shard.run_id for shard in (*added, *carried)), "")},
            max_commit_retries=5,
            app_transactions=[Transaction("prepare", 0 if last is None else last + 1)],
        )
        changes_rows = bool(added) or not carried
        actions = [add_action(shard, carried=False, data_change=True) for shard in added]
        actions += [add_action(shard, carried=True, data_change=changes_rows) for shard in carried]
        actions += [remove_action(shard, data_change=changes_rows) for shard in removed]
        try:
            self._table.create_write_transaction(
                actions, "append", _table_schema(), partition_by=["split"], commit_properties=properties
            )
        except (DeltaError, OSError) as error:
            if isinstance(error, CommitFailedError) and Dataset.open(self.uri).version > self.version:
                return False
            raise JobError(f"{self.uri}: cannot commit {len(actions)} files: {error}") from error
        self.refresh()
        self.storage.sync(f"_delta_log/{self.version:020d}.json")
        return True

    def refresh(self) -> list[Shard]:
        """Move to the newest version; returns files added since with rows that were not in the table before."""
        version = self.version
        self._table.update_incremental()
        differences = self.identity.differences(self._identity())
        if differences:
            raise JobError(f"{self.uri}: changed while this job ran: {'; '.join(differences)}")
        new: dict[str, Shard] = {}
        for number in range(version + 1, self.version + 1):
            change = read_change(self.storage, number)
            apply(self._files, change)
            new.update({path: shard for path, shard in change.added.items() if path not in change.carried})
        return list(new.values())

    def discard(self, shards: Sequence[Shard]) -> None:
        """Delete files that were never committed; those that the log has stay."""
        for shard in shards:
            if shard.path not in self._files:
                self.storage.delete(shard.path)

    def _recordings(self) -> pa.Table:
        rows = read_columns(self.storage, self.shards(), ["recording_id", "source_digest"])
        return (
            rows.group_by("recording_id")
            .aggregate([("source_digest", "max")])
            .rename_columns(rows.column_names)
        )

    def _rejected_for(self, reasons: Collection[str]) -> set[str]:
        rows = read_columns(self.storage, self.shards("rejected"), ["recording_id", "reason"])
        chosen = pc.is_in(rows["reason"], value_set=pa.array(sorted(map(str, reasons)), pa.string()))
        return set(rows["recording_id"].filter(chosen).to_pylist())

    def _refuse_foreign(self, shard: Shard) -> None:
        if shard.codec_digest != self.codec.digest:
            raise JobError(f"{shard.path}: made with another codec than the dataset's {self.codec.name}")
        if shard.split not in SPLITS:
            raise ValueError(f"{shard.path}: split is {shard.split!r}, must be one of {', '.join(SPLITS)}")

    def _plan_retry(self, retry: Collection[str]) -> None:
        self._retry = frozenset(map(str, retry))
        self._again = self._rejected_for(retry) if retry else set()
        self._holders = {}

    def _carve(
        self, pending: Sequence[Shard], again: set[str], remove: Collection[str]
    ) -> tuple[list[Shard], list[Shard]]:
        """New files without the recordings being replaced, and the files that these take the place of."""
        carved, replaced = [], []
        for shard in self.shards() if again else []:
            if shard.path not in self._holders:
                self._holders[shard.path] = self._ids([shard]) & self._again
            if shard.path in remove or not self._holders[shard.path] & again:
                continue
            rest = without_recordings(self.storage, shard, again, pending[0].run_id, self.codec)
            if rest is not shard:
                replaced.append(shard)
                carved += [rest] if rest else []
        return carved, replaced

    def _drop_taken(self, pending: Sequence[Shard]) -> list[Shard]:
        kept = []
        for shard in pending if self._taken else []:
            rest = without_recordings(self.storage, shard, self._taken, shard.run_id, self.codec)
            kept += [rest] if rest else []
            if rest is not shard:
                self.discard([shard])
        return kept if self._taken else list(pending)

    def _ids(self, shards: Sequence[Shard]) -> set[str]:
        return set(read_columns(self.storage, shards, ["recording_id"])["recording_id"].to_pylist())

    def _refuse_vacuumed(self) -> None:
        gone = self._files.keys() - self.storage.listing().keys()
        if gone:
            raise JobError(
                f"{self.uri}: version {self.version} is no longer readable; "
                f"{len(gone)} of its {len(self._files)} files are gone"
            )

    def _identity(self) -> Identity:
        try:
            return Identity.from_configuration(self._table.metadata().configuration)
        except KeyError as error:
            raise JobError(
                f"{self.uri}: a Delta table, but no dataset (it has no property {error})"
            ) from error


def _first_words(error: Exception) -> str:
    """deltalake appends the stack of its native code."""
    return str(error).partition(" 0: <")[0].partition("\n")[0]


def _table_schema() -> pa.Schema:
    return SCHEMA.append(pa.field("split", pa.string()))


def _refuse_place(storage: Storage) -> None:
    """JobError where no dataset can be made: among other files, below a file, or in a folder that is not ours."""
    if "://" not in storage.uri:
        place = Path(storage.uri)
        parent = next(folder for folder in (place, *place.parents) if folder.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            what = "cannot be written" if parent.is_dir() else "is not a folder"
            raise JobError(f"{storage.uri}: cannot create a dataset: {parent} {what}")
    foreign = sorted(path for path in storage.listing() if not path.startswith("_"))
    if foreign:
        raise JobError(f"{storage.uri}: holds {foreign[0]} and is not a dataset; give an empty or new folder")
