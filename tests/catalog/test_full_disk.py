"""A disk that fills up in the middle of a file, and in the middle of a commit: a tmpfs of half a megabyte."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from deltalake import DeltaTable

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.runs import marked_run
from catalog.shards import write_shard
from catalog.upkeep import compact, verify

SIZE = 512 * 1024


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(words, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a small tmpfs")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def small(disk: Path, rows, codec) -> Appender:
    appender = Appender(create(disk / "data", codec, {}))
    appender.append(write_shard(rows(["a", "b"]), appender.uri, "r", codec))
    return appender


def fill(disk: Path) -> Path:
    """Take all that is left, page by page."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return ballast


def recordings(dataset: Dataset | Appender) -> list[str]:
    return sorted(Appender.open(dataset.uri).committed()["recording_id"].to_pylist())


def parquet(dataset: Dataset | Appender) -> set[str]:
    return {path.relative_to(dataset.uri).as_posix() for path in Path(dataset.uri).glob("split=*/*")}


def test_in_the_middle_of_a_file(small, disk, rows, codec) -> None:
    ballast = fill(disk)
    with pytest.raises(
        JobError, match=r"split=train/part-r-\w+\.parquet: cannot write \d+ bytes: No space left"
    ):
        write_shard(rows(["c"]), small.uri, "r", codec)
    assert parquet(small) == {shard.path for shard in small.dataset.shards()}
    ballast.unlink()
    small.append(write_shard(rows(["c"]), small.uri, "r", codec))
    assert recordings(small) == ["a", "b", "c"]
    assert verify(Dataset.open(small.uri)) == []


def test_in_the_middle_of_a_commit(small, disk, rows, codec) -> None:
    shards = write_shard(rows(["c"]), small.uri, "r", codec)
    ballast = fill(disk)
    with pytest.raises(JobError) as failure:
        small.append(shards)
    assert str(failure.value).startswith(f"{small.uri}: cannot commit 1 files: ")
    assert "No space left on device" in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1
    newest = Dataset.open(small.uri)
    assert (newest.version, recordings(newest), verify(newest)) == (1, ["a", "b"], [])
    ballast.unlink()
    assert small.append(shards) == 2, "the same appender goes on: the commit loop offers pending files again"
    assert recordings(small) == ["a", "b", "c"]
    assert verify(Dataset.open(small.uri)) == []
    assert sorted(DeltaTable(small.uri).file_uris()) == sorted(Dataset.open(small.uri).file_uris())


def test_in_the_middle_of_a_replacement(small, disk, rows, codec) -> None:
    """The space carved for the commit is deleted with the run, and the old rows stay."""
    small.committed()
    with marked_run(small.dataset) as run_id:
        shards = write_shard(rows(["a"]), small.uri, run_id, codec)
        ballast = fill(disk)
        with pytest.raises(JobError, match="No space left on device"):
            small.append(shards, replace=True)
        ballast.unlink()
    newest = Dataset.open(small.uri)
    assert recordings(newest) == ["a", "b"]
    assert parquet(newest) == {shard.path for shard in newest.shards()}
    again = Appender(newest)
    again.committed()
    again.append(write_shard(rows(["a"]), small.uri, "r", codec), replace=True)
    newest = again.dataset
    assert recordings(newest) == ["a", "b"]
    assert newest.totals().utterances == 4
    assert verify(newest) == []


def test_after_the_commit_where_a_checkpoint_is_due(small, disk, rows, codec) -> None:
    """The version is there although its checkpoint is not: nothing is committed twice, nothing is lost."""
    DeltaTable(small.uri).alter.set_table_properties({"delta.checkpointInterval": "1"})
    small = Appender.open(small.uri)
    small.committed()
    for pages in range(1, 7):  # room for the log's entry, and at first for less than a checkpoint takes
        shards = write_shard(rows([f"r{pages}"]), small.uri, "r", codec)
        ballast = fill(disk)
        with ballast.open("r+b") as file:
            file.truncate(ballast.stat().st_size - pages * 4096)
        small.append(shards)
        ballast.unlink()
    newest = Dataset.open(small.uri)
    checkpoints = len(list(Path(small.uri, "_delta_log").glob("*.checkpoint.parquet")))
    assert 0 < checkpoints < 6, "some were written, some were not"
    assert (newest.version, recordings(newest)) == (8, ["a", "b", *(f"r{pages}" for pages in range(1, 7))])
    assert verify(newest) == []
    assert sorted(DeltaTable(small.uri).file_uris()) == sorted(newest.file_uris())


def test_compaction(small, disk, rows, codec) -> None:
    for name in "cde":
        small.append(write_shard(rows([name]), small.uri, "r", codec))
    before = parquet(small)
    ballast = fill(disk)
    with pytest.raises(JobError, match="No space left on device"):
        compact(Dataset.open(small.uri))
    ballast.unlink()
    assert parquet(small) == before
    assert compact(Dataset.open(small.uri)).files_after == 1
    assert recordings(small) == list("abcde")
