"""A dataset: a Delta table of codec-tokenised speech. A version of it is a value; `catalog.appending` makes the next.

A file counts only when the log has it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa

from catalog import table
from catalog.command import JobError
from catalog.holders import count_recordings
from catalog.identity import Identity
from catalog.log import active_files
from catalog.schema import RECORDED, SPLITS, Shard
from catalog.shards import read_columns
from catalog.storage import Storage, open_storage
from models.identity import TokenIdentity


@dataclass(frozen=True)
class Totals:
    """Distinct recordings of all splits, accepted and rejected rows, hours of accepted audio.

    Derived rows are no utterances: they count by themselves, and have no hours.
    """

    recordings: int
    utterances: int
    rejected: int
    hours: float
    derived: int = 0


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset."""

    uri: str
    version: int
    identity: Identity
    files: tuple[Shard, ...]
    """In the order they were committed."""
    storage: Storage = field(compare=False, repr=False)

    @staticmethod
    def open(uri: str | Path, version: int | None = None, *, damaged: bool = False) -> Dataset:
        """The newest version, or an older one. Raises JobError if it does not exist.

        An older version some of whose files are gone is refused, too, unless `damaged` asks for it as it is.
        """
        storage = open_storage(uri)
        delta = table.load(storage.uri, version)
        number = int(delta.version())
        files = active_files(storage, number).values()
        dataset = Dataset(storage.uri, number, table.identity(delta, storage.uri), tuple(files), storage)
        if version is not None and not damaged:
            dataset._refuse_vacuumed()
        return dataset

    @property
    def codec(self) -> TokenIdentity:
        """The maker of `codes`."""
        return self.identity.codec

    @property
    def settings(self) -> Mapping[str, object]:
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
        return [shard for shard in self.files if split in (None, shard.split)]

    def file_uris(self, split: str | None = None) -> list[str]:
        """Locations of the files, for any Parquet reader: a directory listing is not the dataset."""
        return [f"{self.uri}/{shard.path}" for shard in self.shards(split)]

    def read(self, columns: Sequence[str], split: str | None = None) -> pa.Table:
        """Some columns of all rows of a split (default: all). Raises JobError for a file that cannot be read."""
        return read_columns(self.storage, self.shards(split), columns)

    def totals(self) -> Totals:
        """Counted by the recordings' keys, so that a recording with rows in two splits counts once."""
        accepted = [shard for shard in self.files if shard.split in RECORDED]
        return Totals(
            recordings=count_recordings(self.storage, self.files),
            utterances=sum(shard.rows for shard in accepted),
            rejected=sum(shard.rows for shard in self.shards("rejected")),
            hours=sum(shard.seconds for shard in accepted) / 3600,
            derived=sum(shard.rows for shard in self.shards("derived")),
        )

    def _refuse_vacuumed(self) -> None:
        gone = {shard.path for shard in self.files} - self.storage.listing().keys()
        if gone:
            raise JobError(
                f"{self.uri}: version {self.version} is no longer readable; "
                f"{len(gone)} of its {len(self.files)} files are gone"
            )


def summary(dataset: Dataset) -> dict[str, object]:
    """URI, version and totals, as the JSON lines of jobs have them; hours to a thousandth of a second."""
    totals = asdict(dataset.totals())
    return {
        "dataset": dataset.uri,
        "version": dataset.version,
        **totals,
        "hours": round(totals["hours"], 6),
    }
