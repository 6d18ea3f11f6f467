"""Runs that write: the records of their settings, and whether their processes live."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog import runs
from catalog.appending import Appender
from catalog.datasets import Dataset
from catalog.runs import delete_abandoned, marked_run, newest_record
from catalog.shards import write_shard
from models.identity import TokenIdentity


def test_the_newest_record_of_settings(appender: Appender) -> None:
    dataset = appender.dataset
    assert newest_record(dataset) == {}
    dataset.storage.write("_settings/20250101T000000_b.yaml", b"source: old\n")
    assert newest_record(dataset) == {"source": "old"}
    dataset.storage.write(
        "_settings/20260101T000000_a.yaml", "source: n\u00e4u\nsettings: {seed: 3}\n".encode()
    )
    assert newest_record(dataset) == {"source": "n\u00e4u", "settings": {"seed": 3}}
    dataset.storage.write("_settings/20270101T000000_a.yaml", b"[1, 2]\n")
    assert newest_record(dataset) == {}


def test_a_run_is_marked_while_it_works(appender: Appender) -> None:
    folder = Path(appender.uri, "_runs")
    with marked_run(appender.dataset) as run_id:
        (marker,) = folder.iterdir()
        assert marker.name == f"{run_id}.json"
        recorded = json.loads(marker.read_text())
    assert list(folder.iterdir()) == []
    assert (recorded["host"], recorded["pid"]) == (socket.gethostname(), os.getpid())
    if sys.platform.startswith("linux"):
        assert recorded["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert recorded["pid_namespace"] == os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - the other way


def test_a_file_that_comes_while_others_are_listed_stays(
    appender: Appender, rows: Callable[..., object], codec: TokenIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, written = appender.dataset, []
    real = dataset.storage.listing

    def listing(folder: str = "") -> object:
        found = real(folder)
        written.extend([] if written else write_shard(rows(["a"]), dataset.uri, "elsewhere", codec))
        return found

    monkeypatch.setattr(dataset.storage, "listing", listing)
    assert delete_abandoned(dataset) == []
    assert Path(dataset.uri, written[0].path).exists()


@pytest.fixture
def left(
    appender: Appender, rows: Callable[..., object], codec: TokenIdentity
) -> Callable[[dict[str, object]], Path]:
    """A new file of a run whose marker has these fields, besides those of this process."""

    def leave(fields: dict[str, object]) -> Path:
        marker = Path(appender.uri, "_runs/theirs.json")
        marker.parent.mkdir(exist_ok=True)
        marker.write_text(json.dumps({**runs._this_process(), **fields}))
        return Path(appender.uri, write_shard(rows(["a"]), appender.uri, "theirs", codec)[0].path)

    return leave


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    return ended.pid


@pytest.mark.parametrize(
    ("fields", "gone"),
    [
        ({}, False),
        ({"process_start": "1"}, True),
        ({"pid": -1}, False),
        ({"pid": True}, False),
        ({"pid": "dead"}, True),
        ({"pid": "dead", "host": "another"}, False),
        ({"pid": "dead", "boot": "another"}, False),
        ({"pid": "dead", "pid_namespace": "another"}, False),
    ],
    ids=["alive", "its number was given again", "no number", "a word", "dead", "host", "boot", "namespace"],
)
def test_only_files_of_runs_that_are_known_to_be_dead_go_at_once(
    left: Callable[[dict[str, object]], Path], appender: Appender, fields: dict[str, object], gone: bool
) -> None:
    """Of another machine, another boot or another container, nobody here can tell; those wait for a day."""
    file = left(fields | ({"pid": dead_pid()} if fields.get("pid") == "dead" else {}))
    relative = file.relative_to(appender.uri).as_posix()
    assert delete_abandoned(appender.dataset, dry_run=True) == ([relative] if gone else [])
    assert delete_abandoned(appender.dataset) == ([relative] if gone else [])
    assert file.exists() == (not gone)
    assert Path(appender.uri, "_runs/theirs.json").exists() == (not gone)


def test_a_process_of_another_user_lives(
    left: Callable[[dict[str, object]], Path], appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    file = left({"process_start": "1"})
    monkeypatch.setattr(os, "kill", refuse)
    assert delete_abandoned(Dataset.open(appender.uri)) == []
    assert file.exists()


def test_the_first_process_of_a_container_may_be_a_job(
    left: Callable[[dict[str, object]], Path], appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise ProcessLookupError

    file = left({"pid": 1})
    monkeypatch.setattr(os, "kill", gone)
    delete_abandoned(appender.dataset)
    assert not file.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_start_of_a_process_stays_what_it_is_while_it_grows() -> None:
    before = runs._process_start(os.getpid())
    held = bytearray(64 << 20)
    assert before.isdecimal()
    assert runs._process_start(os.getpid()) == before
    assert held
    assert runs._process_start(dead_pid()) == ""
