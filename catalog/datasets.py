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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catalog import table
from catalog.command import JobError
from catalog.holders import Holders, count_recordings, keys_of
from catalog.identity import Identity
from catalog.log import active_files, add_action, apply, read_change, remove_action
from catalog.recordings import hashed
from catalog.schema import SPLITS, Shard
from catalog.shards import read_columns, without_recordings
from catalog.storage import Storage, canonical_uri, open_storage
from models.identity import TokenIdentity

# Each conflict means that another job got on, so this bounds how often one job can be overtaken, not how long it waits.
_MAX_CONFLICTS = 1000


@dataclass(frozen=True)
class Totals:
    """What a version holds: distinct recordings of all splits, accepted and rejected rows, hours of accepted audio."""

    recordings: int
    utterances: int
    rejected: int
    hours: float


class Dataset:
    """One version of a dataset, and the handle that appends to its newest version. Not thread-safe."""

    def __init__(self, delta: Any, storage: Storage) -> None:
        self.storage = storage
        self.uri = storage.uri
        self._table = delta
        self._version = int(delta.version())
        self.identity = self._identity()
        self.codec = self.identity.codec
        self._metadata = self._made()
        self._files = active_files(storage, self._version)
        self._planned = False
        self._taken: set[str] = set()  # recordings that other jobs committed since the plan
        self._retry: frozenset[str] = frozenset()
        self._again: set[str] = set()  # recordings rejected for a reason in `_retry`, not yet replaced
        self._replaced: set[str] = set()  # recordings whose old rows this handle replaced
        self._holders = Holders(storage)

    @staticmethod
    def create(uri: str | Path, codec: TokenIdentity, settings: Mapping[str, Any]) -> Dataset:
        """Make an empty dataset, or open the one that is there.

        `settings` are those that change a row. Raises JobError if the existing dataset has another codec or other
        settings (naming each difference with both values), or if the folder holds something else.
        """
        storage, identity = open_storage(uri), Identity(codec, settings)
        if not table.exists(storage.uri):
            _refuse_place(storage)
            table.create(storage.uri, identity)
        dataset = Dataset.open(uri)
        differences = dataset.identity.differences(identity)
        if differences:
            made_by = dataset.codec
            same = f"go on with the codec {made_by.name}@{made_by.edition}, or " if made_by != codec else ""
            raise JobError(
                f"{dataset.uri}: made otherwise: {'; '.join(differences)}; {same}give another output"
            )
        return dataset

    @staticmethod
    def restart(uri: str | Path, codec: TokenIdentity, settings: Mapping[str, Any]) -> Dataset:
        """Start a dataset over with another codec or other settings, in one commit: no files, the new identity.

        Old versions stay readable, and a job that still writes the old rows is refused at its next commit. A dataset
        that has this identity already is opened as it is, so that the same command goes on after a kill; where there
        is none, one is made. Raises JobError.
        """
        identity = Identity(codec, settings)
        for _ in range(_MAX_CONFLICTS):
            if not Dataset.check_place(uri):
                return Dataset.create(uri, codec, settings)
            dataset = Dataset.open(uri)
            if not dataset.identity.differences(identity):
                return dataset
            if table.replace(dataset._table, dataset.uri, identity):
                dataset.storage.sync(f"_delta_log/{dataset.version + 1:020d}.json")
        raise JobError(
            f"{canonical_uri(uri)}: {_MAX_CONFLICTS} conflicts with other jobs in a row; stop them"
        )

    @staticmethod
    def check_place(uri: str | Path) -> bool:
        """Whether a dataset is at `uri`; JobError where there is none and none can be made. Writes nothing."""
        storage = open_storage(uri)
        exists = table.exists(storage.uri)
        if not exists:
            _refuse_place(storage)
        return exists

    @staticmethod
    def open(uri: str | Path, version: int | None = None, *, damaged: bool = False) -> Dataset:
        """The newest version, or an older one for reading. Raises JobError if it does not exist.

        An older version some of whose files are gone is refused, too, unless `damaged` asks for it as it is.
        """
        location = canonical_uri(uri)
        dataset = Dataset(table.load(location, version), open_storage(location))
        if version is not None and not damaged:
            dataset._refuse_vacuumed()
        return dataset

    @property
    def version(self) -> int:
        """The version that this handle reads."""
        return self._version

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
        """`recording_id, source_digest, source_stat` of what a job need not do again, one row a recording.

        Recordings with a row rejected for a reason in `retry` are left out: they are to be done again.
        """
        self._planned = True
        self._taken.clear()
        self._replaced.clear()
        columns = ["recording_id", "source_digest", "source_stat"]
        rows = (
            read_columns(self.storage, self.shards(), columns)
            .group_by("recording_id")
            .aggregate([("source_digest", "max"), ("source_stat", "max")])
            .rename_columns(columns)
        )
        self._plan_retry(retry)
        if not retry:
            return rows
        again = pa.array(sorted(self._again), pa.string())
        return rows.filter(pc.invert(pc.is_in(rows["recording_id"], value_set=again)))

    def totals(self) -> Totals:
        """Counted by the recordings' keys, so that a recording with rows in two splits counts once."""
        accepted = [shard for shard in self.shards() if shard.split != "rejected"]
        return Totals(
            recordings=count_recordings(self.storage, self.shards()),
            utterances=sum(shard.rows for shard in accepted),
            rejected=sum(shard.rows for shard in self.shards("rejected")),
            hours=sum(shard.seconds for shard in accepted) / 3600,
        )

    def append(
        self,
        shards: Sequence[Shard],
        remove: Sequence[str] = (),
        retry: Collection[str] = (),
        replace: bool = False,
    ) -> int:
        """Commit files in one version and return it; a file already in the table is not added twice.

        The handle must have read `committed()`: what other jobs commit after that wins over the same recordings
        here, whose rows are dropped (the file is rewritten). All files of one recording belong in one call.
        `remove` names files to take out of the log in the same commit. With `retry`, every row of the offered
        recordings that were rejected for one of these reasons is replaced; which ones is read once, by
        `committed(retry)` or the first such append. With `replace`, every row that the plan had of any offered
        recording is replaced. Either way a recording is replaced once. Raises JobError.
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
            again = self._to_replace(pending, bool(retry), replace)
            carved, replaced = self._carve(pending, again, remove)
            if not pending and not removed:
                return self.version
            if self.commit(pending, carved, [*removed, *replaced], job="prepare"):
                self._again -= again
                self._replaced |= again
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
        """One attempt at the next version; False if another version came first: refresh and look again.

        `carried` are new files of rows that `removed` held. A table of an older program gets the columns it lacks
        first, as a version of its own. Raises JobError if the log cannot be written.
        """
        self._refuse_other_identity()
        if table.lacks_columns(self._table):
            table.add_columns(self.uri)
            return False
        changes_rows = bool(added) or _rows(carried) != _rows(removed)
        actions = [add_action(shard, carried=False, data_change=True) for shard in added]
        actions += [add_action(shard, carried=True, data_change=changes_rows) for shard in carried]
        actions += [remove_action(shard, data_change=changes_rows) for shard in removed]
        run_id = next((shard.run_id for shard in (*added, *carried)), "")
        if not table.write(self._table, self.uri, actions, job, run_id):
            return False
        self.refresh()
        self.storage.sync(f"_delta_log/{self.version:020d}.json")
        return True

    def refresh(self) -> list[Shard]:
        """Move to the newest version; returns files added since with rows that were not in the table before."""
        self._table.update_incremental()
        self._refuse_other_identity()
        new: dict[str, Shard] = {}
        newest = int(self._table.version())
        for number in range(self._version + 1, newest + 1):
            change = read_change(self.storage, number)
            apply(self._files, change)
            new.update({path: shard for path, shard in change.added.items() if path not in change.carried})
        self._version = newest
        return list(new.values())

    def discard(self, shards: Sequence[Shard]) -> None:
        """Delete files that were never committed; those that the log has stay."""
        for shard in shards:
            if shard.path not in self._files:
                self.storage.delete(shard.path)

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

    def _to_replace(self, pending: Sequence[Shard], retry: bool, replace: bool) -> set[str]:
        """Which of the offered recordings have rows in the table that the new ones take the place of."""
        if not pending or not (replace or (retry and self._again)):
            return set()
        self._holders.follow(self.shards())
        chosen = set()
        for shard in pending:
            if self._holders.held(keys_of(self.storage, shard)).size:
                offered = self._ids([shard])
                chosen |= offered & self._again if retry else set()
                chosen |= self._held(offered - self._replaced) if replace else set()
        return chosen

    def _held(self, recordings: set[str]) -> set[str]:
        names = sorted(recordings)
        keys = hashed(names)
        return {
            name for name, held in zip(names, np.isin(keys, self._holders.held(keys)), strict=True) if held
        }

    def _carve(
        self, pending: Sequence[Shard], again: set[str], remove: Collection[str]
    ) -> tuple[list[Shard], list[Shard]]:
        """New files without the recordings being replaced, and the files that these take the place of."""
        carved, replaced = [], []
        for path in sorted(self._holders.paths(hashed(sorted(again))) if again else ()):
            if path in remove or path not in self._files:
                continue
            shard = self._files[path]
            rest = without_recordings(self.storage, shard, again, pending[0].run_id, self.codec)
            if rest is not shard:
                replaced.append(shard)
                carved += [rest] if rest else []
        return carved, replaced

    def _drop_taken(self, pending: Sequence[Shard]) -> list[Shard]:
        if not self._taken:
            return list(pending)
        kept, taken = [], hashed(sorted(self._taken))
        for shard in pending:
            if not np.isin(keys_of(self.storage, shard), taken).any():
                kept.append(shard)
                continue
            rest = without_recordings(self.storage, shard, self._taken, shard.run_id, self.codec)
            kept += [rest] if rest else []
            if rest is not shard:
                self.discard([shard])
        return kept

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

    def _made(self) -> tuple[Any, Mapping[str, str]]:
        """Equal as long as the dataset is not started over and keeps its properties."""
        metadata = self._table.metadata()
        return metadata.id, dict(metadata.configuration)

    def _refuse_other_identity(self) -> None:
        """Before and after every commit, since a job that was refused once may try again."""
        made = self._made()
        if made == self._metadata:
            return
        differences = self.identity.differences(self._identity())
        if differences or made[0] != self._metadata[0]:
            how = "; ".join(differences) or "it was started over"
            raise JobError(f"{self.uri}: changed while this job ran: {how}")
        self._metadata = made


def _rows(shards: Sequence[Shard]) -> int:
    return sum(shard.rows for shard in shards)


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
