"""The place of an SQLite tracking store, looked at before MLflow is."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest

from catalog import tracking_store
from catalog.command import JobError
from catalog.tracking_store import check_place, is_absent, make_store, sqlite_file, sqlite_uri


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///mlflow.db", "mlflow.db"),
        ("sqlite:////x/a%41%3F.db?timeout=9", "/x/aA?.db"),
        ("sqlite+pysqlite:////x/m.db", "/x/m.db"),
        ("postgresql://host/db", None),
        ("http://host/sqlite:///x", None),
        ("mlruns", None),
    ],
)
def test_the_file_of_a_uri(uri: str, file: str | None) -> None:
    assert sqlite_file(uri) == (None if file is None else Path(file))


@pytest.mark.parametrize("name", ["m.db", "a b ü.db", "50%.db", "why?.db", "%3F.db"])
def test_every_file_has_a_uri(tmp_path: Path, name: str) -> None:
    assert sqlite_file(sqlite_uri(tmp_path / name)) == tmp_path / name
    assert sqlite_uri(Path("m.db")) == f"sqlite:///{Path.cwd()}/m.db"


def test_what_is_or_becomes_a_database_is_accepted(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "real.db") as database:
        database.execute("CREATE TABLE runs (id)")
    database.close()
    (tmp_path / "empty.db").write_bytes(b"")
    for name, absent in (("real.db", False), ("empty.db", False), ("new/folder/m.db", True)):
        uri = sqlite_uri(tmp_path / name)
        check_place(uri)
        assert is_absent(uri) is absent
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.db", "real.db"], (
        "looking makes nothing"
    )
    for uri in ("postgresql://host/db", "http://host", "mlruns"):
        check_place(uri)
        assert not is_absent(uri)


def test_what_mlflow_would_try_to_open_for_minutes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").write_bytes(b"SQLite format 3")  # a byte is missing
    os.mkfifo(tmp_path / "pipe")
    for place, why in (
        (tmp_path, f"{tmp_path} is a folder; name a file, as {tmp_path}/mlflow.db"),
        (tmp_path / "notes", f"{tmp_path}/notes is no SQLite database; name another file"),
        (tmp_path / "pipe", f"{tmp_path}/pipe is no SQLite database; name another file"),
        (tmp_path / "notes" / "x" / "m.db", f"{tmp_path}/notes is no folder that can be written"),
    ):
        uri = sqlite_uri(place)
        for look in (check_place, is_absent):
            with pytest.raises(JobError) as error:
                look(uri)
            assert str(error.value) == f"tracking URI {uri!r}: {why}"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a file that opens and cannot be read")
def test_a_store_that_cannot_be_read_is_one_line() -> None:
    uri = "sqlite:////proc/self/mem"
    with pytest.raises(JobError, match=rf"^tracking URI '{uri}': Input/output error$"):
        check_place(uri)


def test_a_store_that_was_not_made_to_its_end_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sqlalchemy.exc import OperationalError

    def full(self: object, **_: object) -> None:
        raise OperationalError("CREATE INDEX", {}, Exception("database or disk is full"))

    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"
    monkeypatch.setattr("mlflow.MlflowClient.search_experiments", full)
    with pytest.raises(JobError, match=r"mlflow\.db: .*disk is full"):
        make_store(uri)
    assert not list((tmp_path / "new").iterdir())


def test_a_store_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that another process made in the meantime stays."""
    path = tmp_path / "mlflow.db"

    def faster(file: Path) -> None:
        file.write_bytes(b"ours")
        path.write_bytes(b"the other's")

    monkeypatch.setattr("catalog.tracking_store._make_tables", faster)
    make_store(f"sqlite:///{path}")
    make_store(f"sqlite:///{path}")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("mlflow.db", b"the other's")]


def test_mlflow_may_be_installed_below_a_percent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.store.db import utils

    package = tmp_path / "odd %41" / "mlflow"
    package.parent.mkdir()
    package.symlink_to(Path(utils.__file__).parents[2])
    monkeypatch.setattr(utils, "_get_package_dir", lambda: str(package))
    tracking_store._let_migrations_be_found.cache_clear()
    make_store(sqlite_uri(tmp_path / "mlflow.db"))
    tracking_store._let_migrations_be_found.cache_clear()
    tables = sqlite3.connect(tmp_path / "mlflow.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert ("runs",) in tables
