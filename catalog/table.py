"""The Delta table under a dataset: all calls of deltalake, whose errors become one line."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.identity import COLUMNS_PROPERTY, Columns, Identity, columns_to_json
from catalog.log import check_entries
from catalog.schema import SCHEMA
from catalog.storage import canonical_uri, open_storage

if TYPE_CHECKING:
    from deltalake import CommitProperties, DeltaTable, Field
    from deltalake.transaction import AddAction, RemoveAction

_CONFIGURATION = {
    # Old commits say which unreferenced files are ours to delete and which versions can be read.
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "50",
}
_APPLICATION = "prepare"
_LOG = "_delta_log"
_ODD = re.compile(r"[%\\\x00-\x1f\x7f\ud800-\udfff]")


def exists(uri: str) -> bool:
    """True if a Delta table is there."""
    from deltalake import DeltaTable

    place = canonical_uri(uri)
    if "://" not in place and not (Path(place) / _LOG).is_dir():
        return False
    return bool(DeltaTable.is_deltatable(_place(place)))


def load(uri: str, version: int | None = None) -> DeltaTable:
    """The newest or an older version of the table. Raises JobError."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    if not exists(uri):
        raise JobError(f"{uri}: no dataset there")
    place = _place(uri)
    try:
        newest = DeltaTable(place)
    except DeltaError as error:
        check_entries(open_storage(uri))
        raise JobError(f"{uri}: its log cannot be read: {_first_words(error)}{_remedy(uri)}") from error
    if version is None:
        return newest
    if not 0 <= version <= newest.version():
        raise JobError(f"{uri}: no version {version}; the newest is {newest.version()}")
    try:
        return DeltaTable(place, version=version)
    except DeltaError as error:
        raise JobError(f"{uri}: version {version} cannot be read: {_first_words(error)}") from error


def identity(table: DeltaTable, uri: str) -> Identity:
    """The identity that the table records. Raises JobError for a table that is no dataset."""
    try:
        return Identity.from_configuration(table.metadata().configuration)
    except KeyError as error:
        raise JobError(f"{uri}: a Delta table, but no dataset (it has no property {error})") from error


def made(table: DeltaTable) -> tuple[str, Mapping[str, str]]:
    """Equal as long as the dataset is not started over and keeps its properties."""
    metadata = table.metadata()
    return metadata.id, dict(metadata.configuration)


def create(uri: str, identity: Identity) -> None:
    """Make an empty table; one that another job makes at the same time is left as it is. Raises JobError."""
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        if _place(uri) != uri:
            (Path(uri) / _LOG).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(_place(uri), _schema(), **_made_with(identity))
    except (DeltaError, OSError) as error:
        if not exists(uri):
            raise JobError(f"{uri}: cannot create a dataset: {_first_words(error)}") from error


def replace(table: DeltaTable, uri: str, identity: Identity) -> bool:
    """One commit that takes every file out of the newest version and gives the table another identity.

    False (and nothing changed) if another job committed meanwhile. Raises JobError.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        DeltaTable.create(
            _place(uri),
            _schema(),
            mode="overwrite",
            commit_properties=_properties(table, "restart", ""),
            **_made_with(identity),
        )
    except (DeltaError, OSError) as error:
        if load(uri).version() > table.version():
            return False
        raise JobError(f"{uri}: cannot start the dataset over: {_first_words(error)}") from error
    return True


def write(
    table: DeltaTable, uri: str, actions: Sequence[AddAction | RemoveAction], job: str, run_id: str
) -> bool:
    """Commit the actions as the version after the table's; False if another version came first, whoever made it.

    Where the disk refuses what comes after the commit itself (a checkpoint), the version is there and this is False,
    too: a caller that reads the newest version finds its own files in it. Raises JobError.
    """
    from deltalake.exceptions import DeltaError

    before = table.version()  # deltalake moves the table on even where it then fails to write a checkpoint
    try:
        table.create_write_transaction(
            actions,
            "append",
            _schema(),
            partition_by=["split"],
            commit_properties=_properties(table, job, run_id),
        )
    except (DeltaError, OSError) as error:
        if load(uri).version() > before:
            return False
        raise JobError(f"{uri}: cannot commit {len(actions)} files: {_first_words(error)}") from error
    return True


def lacks_columns(table: DeltaTable) -> bool:
    """True for a table of an older program, whose rows had fewer columns."""
    return bool(_missing(table))


def add_columns(uri: str) -> None:
    """Give the table the columns that it lacks, in one commit; rows that are there have null. Raises JobError."""
    from deltalake.exceptions import DeltaError

    table = load(uri)
    if not lacks_columns(table):
        return
    try:
        table.alter.add_columns(_missing(table), commit_properties=_properties(table, "add columns", ""))
    except (DeltaError, OSError) as error:
        if load(uri).version() == table.version():
            raise JobError(f"{uri}: cannot add columns: {_first_words(error)}") from error


def set_columns(table: DeltaTable, uri: str, columns: Columns) -> bool:
    """One commit that records the makers of token columns; False if another job committed meanwhile.

    Raises JobError.
    """
    from deltalake.exceptions import DeltaError

    try:
        table.alter.set_table_properties(
            {COLUMNS_PROPERTY: columns_to_json(columns)},
            raise_if_not_exists=False,
            commit_properties=_properties(table, "declare column", ""),
        )
    except (DeltaError, OSError) as error:
        if load(uri).version() > table.version():
            return False
        raise JobError(f"{uri}: cannot declare a column: {_first_words(error)}") from error
    return True


def _remedy(uri: str) -> str:
    """The checkpoint of a local log that cannot be read, if there is one, and what to do about it."""
    for path in sorted(Path(uri, _LOG).glob("*.checkpoint*.parquet")):
        try:
            pq.read_metadata(path)
        except (pa.ArrowException, OSError):
            return f"; {path} is damaged: delete it, the other entries say all that it said"
    return ""


@lru_cache(maxsize=64)
def _place(uri: str) -> str:
    """The location to give to deltalake, whose log reader decodes a path once more than its writer does (1.6).

    Where that, or a control character, would lead astray, it is a folder of this process with a link to the log: files
    of rows are ours to read and write, and never its.
    """
    if "://" in uri or not _ODD.search(uri):
        return uri
    folder = Path(tempfile.mkdtemp(prefix="speechmill-log-", dir=_plain_temporary()))
    (folder / _LOG).symlink_to(Path(uri).absolute() / _LOG, target_is_directory=True)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(folder)


def _plain_temporary() -> str:
    """A folder for temporary files whose own path deltalake reads as it is. Raises JobError."""
    folders = (tempfile.gettempdir(), "/tmp", "/var/tmp")
    for folder in folders:
        if not _ODD.search(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise JobError(
        f"{folders[0]}: the folder for temporary files may not have % or a control character in its path"
    )


def _missing(table: DeltaTable) -> list[Field]:
    from deltalake import Schema

    present = {field.name for field in table.schema().fields}
    return [field for field in Schema.from_arrow(_schema()).fields if field.name not in present]


def _properties(table: DeltaTable, job: str, run_id: str) -> CommitProperties:
    """Each commit carries the next number of one application, so that those of two jobs conflict."""
    from deltalake import CommitProperties, Transaction

    last = table.transaction_version(_APPLICATION)
    return CommitProperties(
        custom_metadata={"job": job, "run_id": run_id},
        max_commit_retries=5,
        app_transactions=[Transaction(_APPLICATION, 0 if last is None else last + 1)],
    )


def _made_with(identity: Identity) -> dict[str, Any]:
    return {
        "partition_by": ["split"],
        "configuration": {**identity.to_configuration(), **_CONFIGURATION},
        "raise_if_key_not_exists": False,
    }


def _schema() -> pa.Schema:
    return SCHEMA.append(pa.field("split", pa.string()))


def _first_words(error: Exception) -> str:
    """deltalake sets causes below each other, behind a coloured arrow, and appends the stack of its native code."""
    first, *rest = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).partition(" 0: <")[0].split("\n")
    causes = [line.strip().removeprefix("↳") for line in rest if line.strip().startswith("↳")]
    return ": ".join(part.strip() for part in (first, *causes))
