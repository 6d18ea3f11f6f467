"""MLflow's store: its client, and of an SQLite store the file, the URI, and whether MLflow could open it."""

from __future__ import annotations

import errno
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from catalog.command import JobError
from catalog.files import clear_asides, written_aside

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)")


def client_of(uri: str) -> MlflowClient:
    """MLflow's client of a store that is its registry, too. Raises MlflowException."""
    from mlflow import MlflowClient

    # It announces every new SQLite file, and writes a traceback of what it raises, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    _let_migrations_be_found()
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


@cache
def _let_migrations_be_found() -> None:
    """MLflow 3.17 gives Alembic the folder of its own package, in which a `%` begins an interpolation."""
    from mlflow.store.db import utils

    package = str(utils._get_package_dir())
    if "%" in package:
        utils._get_package_dir = lambda: package.replace("%", "%%")


def sqlite_file(uri: str) -> Path | None:
    """The file of an SQLite tracking URI, in which `%41` is an A; None for another store."""
    match = _SQLITE.match(uri)
    return Path(unquote(match["path"])) if match else None


def sqlite_uri(file: Path) -> str:
    """The tracking URI of an SQLite file, whatever its path is made of.

    MLflow makes the folders above the store of a plain `sqlite:` URI, and does not decode their names before.
    """
    plain = str(file.absolute())
    quoted = plain.replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{plain}" if quoted == plain else f"sqlite+pysqlite:///{quoted}"


def check_place(uri: str) -> None:
    """JobError for an SQLite store that is a folder or cannot be made, which MLflow would try to open for minutes."""
    path = sqlite_file(uri)
    if path is not None:
        if path.is_dir():
            raise JobError(f"tracking URI {uri!r}: {path} is a folder; name a file, as {path / 'mlflow.db'}")
        if path.exists():
            if not _may_be_sqlite(path, uri):
                raise JobError(f"tracking URI {uri!r}: {path} is no SQLite database; name another file")
            return
        # MLflow makes what is missing below.
        place = next(one for one in path.absolute().parents if one.exists())
        if not (place.is_dir() and os.access(place, os.W_OK)):
            raise JobError(f"tracking URI {uri!r}: {place} is no folder that can be written")


def make_store(uri: str) -> None:
    """Make the file of an SQLite store that does not exist, whole or not at all.

    MLflow 3.17 makes the tables in some fifty steps, each for itself: a store in which it was killed, or ran out of
    room, cannot be opened any more. JobError names a place where none can be made.
    """
    path = sqlite_file(uri)
    if path is None or not str(path) or path.exists():
        return
    whole = path.absolute().with_name(f"{path.name}.new")
    try:
        whole.parent.mkdir(parents=True, exist_ok=True)
        clear_asides(whole.parent, whole.name)
        with written_aside(whole) as aside:
            try:
                _make_tables(aside)
            finally:
                aside.with_name(f"{aside.name}-journal").unlink(missing_ok=True)
        try:
            os.link(whole, path)
        except FileExistsError:  # another process was faster
            pass
        except OSError:  # file systems without hard links
            whole.rename(path)
        whole.unlink(missing_ok=True)
    except OSError as error:
        raise JobError(f"tracking URI {uri!r}: {path}: {error.strerror or error}") from error


def _make_tables(file: Path) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        client_of(sqlite_uri(file)).search_experiments(max_results=1)
    except SQLAlchemyError as error:
        full = "disk is full" in str(error)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(error).splitlines()[0], str(file)) from error


def _may_be_sqlite(path: Path, uri: str) -> bool:
    """False for pipes, and for files that begin otherwise. An empty file becomes a database."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(16) in (b"", b"SQLite format 3\0")
    except OSError as error:
        raise JobError(f"tracking URI {uri!r}: {error.strerror or error}") from error


def is_absent(uri: str) -> bool:
    """True for an SQLite store whose file does not exist, which looking for something would make."""
    path = sqlite_file(uri)
    check_place(uri)
    return path is not None and not path.exists()
