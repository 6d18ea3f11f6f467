"""The same dataset code on an object store: moto's S3 on localhost."""

from __future__ import annotations

import dataclasses

import pytest

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create, restart
from catalog.datasets import Dataset
from catalog.runs import delete_abandoned, marked_run
from catalog.shards import write_shard
from catalog.storage import open_storage
from catalog.upkeep import compact, history, vacuum, verify


@pytest.fixture
def bucket(s3_bucket) -> str:
    return f"s3://{s3_bucket.name}/data"


def test_files(bucket) -> None:
    storage = open_storage(bucket)
    assert storage.listing() == {}
    storage.write("split=train/a.parquet", b"1234")
    assert storage.read("split=train/a.parquet") == b"1234"
    assert {path: stat.size_bytes for path, stat in storage.listing().items()} == {"split=train/a.parquet": 4}
    assert set(storage.listing("split=train")) == {"split=train/a.parquet"}
    storage.move("split=train/a.parquet", "_corrupt/split=train/a.parquet")
    assert set(storage.listing()) == {"_corrupt/split=train/a.parquet"}
    storage.delete("_corrupt/split=train/a.parquet")
    storage.delete("_corrupt/split=train/a.parquet")
    with pytest.raises(FileNotFoundError):
        storage.read("split=train/a.parquet")


def test_a_dataset_from_beginning_to_end(bucket, rows, codec) -> None:
    mine = Appender(create(bucket, codec, {"text": "as given"}))
    theirs = Appender.open(bucket + "/")
    mine.committed()
    theirs.committed()
    with marked_run(mine.dataset) as run_id:
        mine.append(write_shard(rows(["a", "b"]), bucket, run_id, codec))
        theirs.append(write_shard(rows(["b", "c"]), bucket, "other", codec))
        write_shard(rows(["d"]), bucket, run_id, codec)
    newest = Dataset.open(bucket)
    assert newest.file_uris()[0].startswith(f"{bucket}/split=train/part-")
    assert sorted(Appender(newest).committed()["recording_id"].to_pylist()) == ["a", "b", "c"]
    assert (newest.totals().utterances, verify(newest)) == (6, [])
    assert compact(newest).files_after == 1
    assert [one["rows"] for one in history(newest)] == [0, 4, 6, 6]
    assert vacuum(newest, 0)["unreadable_versions"] == [1, 2]
    assert delete_abandoned(newest) == []
    assert verify(Dataset.open(bucket)) == []
    assert Dataset.open(bucket).totals() == newest.totals()
    again = Appender.open(bucket)
    again.committed()
    again.append(write_shard(rows(["a"]), bucket, "again", codec), replace=True)
    newest = again.dataset
    assert (newest.totals().recordings, newest.totals().utterances) == (3, 6)
    made = restart(bucket, dataclasses.replace(codec, edition="2"), {})
    assert (made.shards(), made.codec.edition) == ([], "2")
    assert verify(Dataset.open(bucket, made.version - 1)) == []


def test_a_bucket_that_cannot_be_written_is_one_line(bucket) -> None:
    missing = "s3://nobody-made-this-bucket/data"
    with pytest.raises(JobError, match=rf"^{missing}/a: cannot write 3 bytes: "):
        open_storage(missing).write("a", b"123")
