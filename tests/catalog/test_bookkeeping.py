"""Log, markers and places of a dataset: what is damaged is named, odd names work, and no clock is trusted alone."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from catalog.__main__ import main
from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.runs import delete_abandoned, marked_run
from catalog.shards import write_shard
from catalog.storage import canonical_uri
from catalog.upkeep import compact, history, vacuum, verify
from models.identity import TokenIdentity

Append = Callable[..., object]


def newest_entry(dataset: Dataset) -> Path:
    return max(Path(dataset.uri, "_delta_log").glob("*.json"))


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b"\xff\xfe", b"[]\n", b'{"add": 3}\n', b'{"add": {"path": "x"}}\n', b"[" * 100_000,
     b'{"add": {"path": "x", "size": 1, "stats": "[]"}}\n',
     b'{"add": {"path": "x", "size": 1, "stats": "{\\"recordings\\": \\"many\\"}"}}\n'],
)  # fmt: skip
def test_a_damaged_log_entry_is_named(
    append: Append, appender: Appender, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    append(["a"])
    append(["b"])
    entry = newest_entry(appender.dataset)
    entry.write_bytes(content)
    for command in ("show", "verify"):
        assert main([command, appender.uri]) == 1
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert entry.name in said
    entry.unlink()
    assert Dataset.open(appender.uri).totals().recordings == 1


@pytest.mark.parametrize("place", ["missing", "far"])
def test_an_entry_that_is_missing_between_others_is_named(
    append: Append, appender: Appender, place: str
) -> None:
    for name in "abc":
        append([name])
    entry = newest_entry(appender.dataset)
    if place == "missing":
        lacking = entry.with_name(f"{int(entry.stem) - 1:020d}.json")
        lacking.unlink()
    else:
        lacking = entry.with_name(f"{int(entry.stem) + 1:020d}.json")
        entry.with_name(f"{99:020d}.json").write_bytes(entry.read_bytes())
    with pytest.raises(JobError, match=f"{lacking.name}: the log lacks this entry; restore it from a backup"):
        Dataset.open(appender.uri)


@pytest.mark.parametrize("content", [b"", b"PAR1" + bytes(64)], ids=["empty", "zeros"])
def test_a_damaged_checkpoint_costs_nothing(append: Append, appender: Appender, content: bytes) -> None:
    """deltalake passes over an empty one; of another the message says that it can be deleted."""
    from deltalake import DeltaTable

    append(["a"])
    append(["b"])
    DeltaTable(appender.uri).create_checkpoint()
    append(["c"])
    checkpoint = next(Path(appender.uri, "_delta_log").glob("*.checkpoint.parquet"))
    before = Dataset.open(appender.uri).files
    checkpoint.write_bytes(content)
    (checkpoint.parent / "_last_checkpoint").unlink()
    if content:
        with pytest.raises(JobError, match=f"{checkpoint.name} is damaged: delete it"):
            Dataset.open(appender.uri)
        checkpoint.unlink()
    assert set(Dataset.open(appender.uri).files) == set(before)


def test_a_log_that_another_program_shortened_is_read_from_its_checkpoint(
    append: Append, appender: Appender, rows: Callable[..., object], codec: TokenIdentity
) -> None:
    """Only the checkpoint has the files of the versions that it dropped, and nothing says which others it named."""
    from deltalake import DeltaTable

    append(["a"])
    append(["b"], "rejected", "silent")
    append(["a"], replace=True)
    append(["c"], "validation")
    DeltaTable(appender.uri).create_checkpoint()
    append(["c", "d"], replace=True)
    left = Path(appender.uri, write_shard(rows(["e"]), appender.uri, "dead", codec)[0].path)
    os.utime(left, (0, 0))
    before = Dataset.open(appender.uri)
    for version in range(5):
        Path(appender.uri, f"_delta_log/{version:020d}.json").unlink()
    newest = Dataset.open(appender.uri)
    assert set(newest.files) == set(before.files)
    assert newest.totals() == before.totals()
    assert verify(newest) == []
    assert delete_abandoned(newest) == []
    assert left.exists()
    assert [(one["version"], one["added"], one["removed"]) for one in history(newest)] == [(5, 1, 1)]
    assert vacuum(newest, 0)["files"] == 1, "what left the table since is known"


@pytest.mark.parametrize("marker", ["[]", "{", '{"pid": 1e30}', "3", "null", "[" * 100_000, "", "pipe"])
def test_a_damaged_marker_ends_nothing(append: Append, appender: Appender, marker: str) -> None:
    append(["a"])
    append(["b"])
    with marked_run(appender.dataset) as run_id:
        ours = json.loads(Path(appender.uri, f"_runs/{run_id}.json").read_text())
    damaged = Path(appender.uri, "_runs/x.json")
    if marker == "pipe":
        os.mkfifo(damaged)
    else:
        damaged.write_text(json.dumps(ours | {"pid": 1e30}) if "pid" in marker else marker)
    assert compact(Dataset.open(appender.uri)).files_after == 1
    vacuum(Dataset.open(appender.uri), 0.0)
    assert damaged.exists()


def test_what_was_deleted_is_not_committed(
    appender: Appender, rows: Callable[..., object], codec: TokenIdentity
) -> None:
    shards = write_shard(rows(["a"]), appender.uri, "test", codec)
    Path(appender.uri, shards[0].path).unlink()
    with pytest.raises(JobError, match=r"was deleted before it could be committed \(1 of 1 files\)"):
        appender.append(shards)
    assert Dataset.open(appender.uri).files == ()


def test_a_clock_that_is_ahead_deletes_no_file_of_a_live_job(
    append: Append,
    appender: Appender,
    rows: Callable[..., object],
    codec: TokenIdentity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    append(["a"])
    flying = Path(appender.uri, write_shard(rows(["b"]), appender.uri, "elsewhere", codec)[0].path)
    marker = Path(appender.uri, "_runs/elsewhere.json")
    marker.parent.mkdir(exist_ok=True)
    marker.write_text('{"host": "another"}')
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    with marked_run(Dataset.open(appender.uri)):
        pass
    assert flying.exists()
    assert marker.exists()
    for path in (flying, marker):  # now a day has passed for the store, too
        os.utime(path, (now - 25 * 3600,) * 2)
    assert delete_abandoned(Dataset.open(appender.uri)) == [flying.relative_to(appender.uri).as_posix()]


@pytest.mark.parametrize(
    "name", ["set%20one", "a%41b", "back\\slash", "new\nline", "esc\x1b[31m", "%", "data:v1", "späce #?[x]"]
)
def test_a_dataset_may_have_any_name(
    tmp_path: Path,
    name: str,
    rows: Callable[..., object],
    codec: TokenIdentity,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    sibling = Appender(create(tmp_path / "set one", codec, {}))
    sibling.append(write_shard(rows(["sibling"]), sibling.uri, "test", codec))
    appender = Appender(create(name, codec, {}))
    for recording in ("a", "b"):
        appender.append(write_shard(rows([recording]), appender.uri, "test", codec))
        appender.committed()
    dataset = Dataset.open(name)
    assert dataset.totals().recordings == 2
    assert compact(dataset).files_after == 1
    assert verify(Dataset.open(name)) == []
    assert Dataset.open(name, 1).totals().recordings == 1
    assert {path.name for path in tmp_path.iterdir()} == {"set one", name}
    assert Path(canonical_uri(name), "_delta_log").is_dir()


def test_the_folder_for_temporary_files_may_have_any_name(
    tmp_path: Path, rows: Callable[..., object], codec: TokenIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "odd %41 é"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    appender = Appender(create(tmp_path / "set%20one", codec, {}))
    appender.append(write_shard(rows(["a"]), appender.uri, "test", codec))
    assert Dataset.open(appender.uri).totals().recordings == 1


def test_a_place_that_holds_no_dataset_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="no dataset there"):
        Dataset.open(tmp_path / "set%20one")
    assert not list(tmp_path.iterdir())


def test_a_dataset_that_was_removed_is_not_made_again_by_its_writers(
    appender: Appender, rows: Callable[..., object], codec: TokenIdentity
) -> None:
    place = Path(appender.uri)
    place.rename(place.with_name("moved"))
    with pytest.raises(JobError, match="was removed or moved while this job ran"):
        write_shard(rows(["a"]), appender.uri, "test", codec)
    assert not place.exists()
