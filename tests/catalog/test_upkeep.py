from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from catalog.appending import Appender
from catalog.command import JobError, UsageError
from catalog.datasets import Dataset
from catalog.shards import write_shard
from catalog.upkeep import Problem, compact, history, missing_files, vacuum, verify


def contents(dataset: Dataset) -> list[dict[str, object]]:
    return sorted(
        (row for uri in dataset.file_uris() for row in pq.read_table(uri).to_pylist()),
        key=lambda row: row["id"],
    )


def test_verify_names_each_damaged_file(appender, append) -> None:
    assert verify(appender.dataset) == [], "a dataset without files is sound"
    shards = [append([name])[0] for name in "abc"]
    assert verify(appender.dataset) == []
    file = Path(appender.uri) / shards[0].path
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 4
    file.write_bytes(data)
    (Path(appender.uri) / shards[1].path).unlink()
    assert verify(appender.dataset) == [
        Problem(
            shards[0].path,
            f"its sha256 is not the committed {shards[0].sha256[:12]}...: the file has changed",
        ),
        Problem(shards[1].path, "the file is missing"),
    ]


def test_verify_finds_ids_that_are_there_twice(appender, append) -> None:
    append(["a"])
    append(["a"])
    assert verify(appender.dataset) == [
        Problem("", "id a-0 is there more than once"),
        Problem("", "id a-1 is there more than once"),
    ]


def test_verify_names_what_others_wrote(appender, append) -> None:
    (shard,) = append(["a"])
    table = pq.ParquetFile(f"{appender.uri}/{shard.path}").read()
    write_deltalake(
        appender.uri, table.append_column("split", pa.array(["train"] * table.num_rows)), mode="append"
    )
    newest = Dataset.open(appender.uri)
    assert len(newest.shards()) == 2
    problems = [problem.what for problem in verify(newest)]
    assert problems[0] == "the log has no sha256 for it (not written by this program)"
    assert problems[1].startswith("made with codec unknown, the dataset's is {")
    assert problems[2:] == ["id a-0 is there more than once", "id a-1 is there more than once"]


def test_compaction_keeps_rows_and_old_versions(appender, append) -> None:
    for index in range(7):
        append([f"r{index}"])
    append(["v"], "validation")
    append(["x"], "rejected", "silent")
    append(["y"], "rejected", "silent")
    before, totals, version = contents(appender.dataset), appender.dataset.totals(), appender.dataset.version
    result = compact(appender.dataset)
    assert (result.files_before, result.files_after, result.skipped) == (10, 3, 0)
    newest = Dataset.open(appender.uri)
    assert contents(newest) == before
    assert newest.totals() == totals
    assert verify(newest) == []
    assert contents(Dataset.open(appender.uri, version)) == before
    assert compact(newest).version == newest.version, "there is nothing left to compact"


def test_compaction_cuts_at_the_target(appender, append) -> None:
    sizes = [append([f"r{index}"])[0].size_bytes for index in range(6)]
    compact(appender.dataset, target_bytes=3 * max(sizes))
    assert [shard.rows for shard in Dataset.open(appender.uri).shards()] == [6, 6]
    with pytest.raises(UsageError, match="target size is 0 bytes"):
        compact(appender.dataset, 0)


def test_compaction_beside_a_running_job(appender, append, rows, codec) -> None:
    append(["a"])
    append(["b"])
    writer = Appender.open(appender.uri)
    writer.committed()
    stale = Dataset.open(appender.uri)
    writer.append(write_shard(rows(["c"]), appender.uri, "job", codec))
    compact(stale)
    writer.append(write_shard(rows(["d"]), appender.uri, "job", codec))
    newest = Dataset.open(appender.uri)
    assert [row["recording_id"] for row in contents(newest)] == [name for name in "abcd" for _ in range(2)]
    assert verify(newest) == []
    assert sorted(newest.file_uris()) == sorted(map(unquote, DeltaTable(appender.uri).file_uris()))


def test_compaction_gives_way_to_a_replacement(appender, append, rows, codec) -> None:
    append(["a"], "rejected", "missing_text")
    append(["b"], "rejected", "missing_text")
    stale = Dataset.open(appender.uri)
    append(["a"], retry=["missing_text"])
    assert compact(stale).skipped == 1
    newest = Dataset.open(appender.uri)
    assert [(row["recording_id"], row["reason"]) for row in contents(newest)] == [
        ("a", None),
        ("a", None),
        ("b", "missing_text"),
    ]
    files = {str(path) for path in Path(appender.uri).glob("split=*/*.parquet")}
    referenced = {
        uri
        for version in range(newest.version + 1)
        for uri in Dataset.open(appender.uri, version).file_uris()
    }
    assert files == referenced, "the merged file that was not committed is gone"


def test_compaction_refuses_to_launder_a_corrupt_file(appender, append) -> None:
    shards = [append([name])[0] for name in "ab"]
    file = Path(appender.uri) / shards[1].path
    file.write_bytes(file.read_bytes()[:-1] + b"X")
    with pytest.raises(JobError, match="the file has changed"):
        compact(appender.dataset)
    assert Dataset.open(appender.uri).shards() == shards


def test_vacuum_deletes_what_no_recent_version_needs(appender, append) -> None:
    append(["a"])
    append(["b"])
    foreign = Path(appender.uri) / "split=train" / "notes.parquet"
    foreign.write_text("mine")
    (Path(appender.uri) / "README").write_text("mine")
    os.utime(foreign, (0, 0))
    compact(appender.dataset)
    assert vacuum(appender.dataset)["files"] == 0, "seven days are kept by default"
    planned = vacuum(appender.dataset, 0, dry_run=True)
    assert planned == {
        "dataset": appender.uri,
        "dry_run": True,
        "files": 2,
        "bytes": sum(shard.size_bytes for shard in Dataset.open(appender.uri, 2).files),
        "unreadable_versions": [1, 2],
    }
    assert len(contents(Dataset.open(appender.uri, 2))) == 4
    done = vacuum(appender.dataset, 0)
    assert (done["files"], done["bytes"], done["unreadable_versions"]) == (2, planned["bytes"], [1, 2])
    assert vacuum(appender.dataset, 0)["files"] == 0
    assert foreign.exists()
    assert (Path(appender.uri) / "README").exists()
    assert verify(Dataset.open(appender.uri)) == []
    with pytest.raises(JobError, match="version 2 is no longer readable; 2 of its 2 files are gone"):
        Dataset.open(appender.uri, 2)
    assert [one["readable"] for one in history(appender.dataset)] == [True, False, False, True]
    with pytest.raises(UsageError, match="retention is -1 h"):
        vacuum(appender.dataset, -1)
    with pytest.raises(UsageError, match="retention is nan h"):
        vacuum(appender.dataset, float("nan"))


def test_history(appender, append) -> None:
    began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    append(["a"])
    append(["b"], "rejected", "silent")
    compact(appender.dataset)
    entries = history(appender.dataset)
    assert [(one["version"], one["job"], one["added"], one["removed"], one["rows"]) for one in entries] == [
        (0, "CREATE TABLE", 0, 0, 0),
        (1, "prepare", 1, 0, 2),
        (2, "prepare", 1, 0, 3),
    ]
    assert [one["run_id"] for one in entries] == ["", "test", "test"]
    assert all(one["readable"] for one in entries)
    times = [one["time"] for one in entries]
    assert times == sorted(times)
    assert began <= times[1] <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def test_files_that_are_gone_or_cut_are_named_without_reading(appender, append) -> None:
    shards = [append([name])[0] for name in "abc"]
    assert missing_files(appender.dataset) == []
    Path(appender.uri, shards[0].path).unlink()
    Path(appender.uri, shards[2].path).write_bytes(b"1234")
    assert missing_files(appender.dataset) == [
        Problem(shards[0].path, "the file is missing"),
        Problem(shards[2].path, f"4 bytes, the log says {shards[2].size_bytes}"),
    ]
