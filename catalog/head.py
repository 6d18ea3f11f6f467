"""The newest version of a dataset, and attempts at the next one.

Every commit carries the next number of one application transaction, so two jobs conflict instead of duplicating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from catalog import table
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.log import add_action, apply, read_change, remove_action
from catalog.schema import Shard

MAX_CONFLICTS = 1000
"""Each conflict means that another job got on, so this bounds how often one job can be overtaken, not its wait."""


class Head:
    """Follows a dataset from one version to the next. Not thread-safe."""

    def __init__(self, dataset: Dataset) -> None:
        self.uri, self.storage, self.identity = dataset.uri, dataset.storage, dataset.identity
        self._delta = table.load(dataset.uri, dataset.version)
        self._made = table.made(self._delta)
        self._version = dataset.version
        self._files = {shard.path: shard for shard in dataset.files}

    @property
    def dataset(self) -> Dataset:
        """The version that this head has reached."""
        return Dataset(self.uri, self._version, self.identity, tuple(self._files.values()), self.storage)

    @property
    def version(self) -> int:
        """Its number."""
        return self._version

    @property
    def files(self) -> Mapping[str, Shard]:
        """Its files by path."""
        return self._files

    def commit(
        self,
        added: Sequence[Shard],
        carried: Sequence[Shard],
        removed: Sequence[Shard],
        job: str,
        *,
        changes_rows: bool | None = None,
    ) -> bool:
        """One attempt at the next version; False if another version came first: refresh and decide again.

        `carried` are new files of rows that `removed` held; `changes_rows` tells readers of changes whether they differ
        (default: whether rows came or went). A table of an older program gets the columns it lacks first, as a version
        of its own. Raises JobError if the log cannot be written.
        """
        self._refuse_other_identity()
        if table.lacks_columns(self._delta):
            table.add_columns(self.uri)
            return False
        if changes_rows is None:
            changes_rows = bool(added) or _rows(carried) != _rows(removed)
        actions = [add_action(shard, carried=False, data_change=True) for shard in added]
        actions += [add_action(shard, carried=True, data_change=changes_rows) for shard in carried]
        actions += [remove_action(shard, data_change=changes_rows) for shard in removed]
        run_id = next((shard.run_id for shard in (*added, *carried)), "")
        if not table.write(self._delta, self.uri, actions, job, run_id):
            return False
        self.refresh()
        self.storage.sync(f"_delta_log/{self._version:020d}.json")
        return True

    def swap(self, new: Shard, old: Sequence[Shard], job: str, *, changes_rows: bool | None = None) -> bool:
        """Put a file in the place of others with the same rows; False, and it is deleted, if another job took one away.

        Raises JobError.
        """
        for _ in range(MAX_CONFLICTS):
            if self.commit([], [new], old, job, changes_rows=changes_rows):
                return True
            self.refresh()
            if not {shard.path for shard in old} <= self._files.keys():
                self.discard([new])
                return False
        raise JobError(
            f"{self.uri}: {MAX_CONFLICTS} conflicts with other jobs in a row; {job} when they are done"
        )

    def refresh(self) -> list[Shard]:
        """Move to the newest version; returns files added since with rows that were not in the table before."""
        self._delta.update_incremental()
        self._refuse_other_identity()
        new: dict[str, Shard] = {}
        newest = int(self._delta.version())
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

    def _refuse_other_identity(self) -> None:
        """Before and after every commit, since a job that was refused once may try again."""
        made = table.made(self._delta)
        if made == self._made:
            return
        differences = self.identity.differences(table.identity(self._delta, self.uri))
        if differences or made[0] != self._made[0]:
            how = "; ".join(differences) or "it was started over"
            raise JobError(f"{self.uri}: changed while this job ran: {how}")
        self._made = made


def _rows(shards: Sequence[Shard]) -> int:
    return sum(shard.rows for shard in shards)
