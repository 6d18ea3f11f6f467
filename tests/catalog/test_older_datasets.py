"""Datasets of an older program: fewer columns, no recording keys in the log."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from catalog import damage
from catalog.appending import Appender
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.identity import Identity
from catalog.log import add_action
from catalog.recordings import recording_key
from catalog.schema import SCHEMA
from catalog.shards import read_columns, read_shard, write_shard
from catalog.upkeep import compact, verify

ADDED_LATER = ("words", "avg_logprob", "source_stat", "snr_db", "latents", "task", "prompt_codes")


@pytest.fixture
def old(tmp_path: Path, rows, codec) -> Dataset:
    """Two recordings, a file each, as they were written when there were fewer columns."""
    reduced = pa.schema([field for field in SCHEMA if field.name not in ADDED_LATER])
    uri = str(tmp_path / "old")
    table_schema = reduced.append(pa.field("split", pa.string()))
    properties = Identity(codec, {}).to_configuration()
    table = DeltaTable.create(
        uri, table_schema, partition_by=["split"], configuration=properties, raise_if_key_not_exists=False
    )
    for name in "ab":
        (shard,) = write_shard(rows([name]), uri, "old", codec)
        file = Path(uri, shard.path)
        metadata = pq.read_schema(file).metadata
        written = pq.ParquetFile(file).read(reduced.names).replace_schema_metadata(metadata)
        pq.write_table(written, file, compression="zstd", write_page_checksum=True)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        shard = dataclasses.replace(shard, sha256=sha256, size_bytes=file.stat().st_size)
        action = add_action(shard, carried=False, data_change=True)
        stats = json.loads(action.stats)
        del stats["recording_keys"]
        action.stats = json.dumps(stats)
        table.create_write_transaction([action], "append", table_schema, partition_by=["split"])
    opened = Dataset.open(uri)
    assert not set(ADDED_LATER) & columns(opened)
    assert [shard.recording_keys for shard in opened.shards()] == ["", ""]
    assert pq.read_schema(opened.file_uris()[0]).names == reduced.names
    return opened


def columns(dataset: Dataset) -> set[str]:
    return {field.name for field in DeltaTable(dataset.uri).schema().fields}


def test_it_is_read(old) -> None:
    assert verify(old) == []
    assert (old.totals().recordings, old.totals().utterances) == (2, 4)
    assert Appender(old).committed().to_pylist() == [
        {"recording_id": name, "source_digest": None, "source_stat": None} for name in "ab"
    ]
    table = read_shard(old.storage, old.shards()[0])
    assert table.schema.equals(SCHEMA)
    assert table["words"].null_count == table.num_rows == 2


def test_appending_adds_the_columns_first(old, rows, codec) -> None:
    mine, beside = Appender(old), Appender(old)  # both planned before the columns came
    for job in (mine, beside):
        job.committed()
    new = rows(["c"]).append_column("source_stat", [["5:7"] * 2])
    mine.append(write_shard(new, old.uri, "new", codec))
    assert set(SCHEMA.names) | {"split"} == columns(old)
    beside.append(write_shard(rows(["c", "d"]), old.uri, "beside", codec))
    newest = Dataset.open(old.uri)
    assert newest.version == 5, "the columns, and one version a commit"
    found = read_columns(newest.storage, newest.shards(), ["recording_id", "source_stat"]).to_pylist()
    assert [(row["recording_id"], row["source_stat"]) for row in found] == [
        (name, "5:7" if name == "c" else None) for name in "abcd" for _ in range(2)
    ]
    assert {row["recording_id"]: row["source_stat"] for row in Appender(newest).committed().to_pylist()} == {
        "a": None,
        "b": None,
        "c": "5:7",
        "d": None,
    }
    assert verify(newest) == []
    assert [row["recording_id"] for row in DeltaTable(old.uri).to_pyarrow_table().to_pylist()].count("c") == 2


def test_compaction_brings_all_rows_to_the_columns_of_today(old, rows, codec) -> None:
    appender = Appender(old)
    appender.committed()
    appender.append(write_shard(rows(["c"]), old.uri, "new", codec))
    totals = appender.dataset.totals()
    compact(appender.dataset)
    old = Dataset.open(old.uri)
    (shard,) = old.shards()
    assert pq.read_schema(old.file_uris()[0]).equals(SCHEMA)
    assert shard.recordings == 3
    assert verify(Dataset.open(old.uri)) == []
    assert old.totals() == totals


def test_compaction_alone_adds_the_columns_too(old) -> None:
    done = compact(old)
    assert columns(old) == {*SCHEMA.names, "split"}
    assert (done.files_after, done.skipped) == (1, 0)
    assert verify(Dataset.open(old.uri)) == []


def test_replacing_finds_rows_whose_keys_the_log_has_not(old, rows, codec) -> None:
    appender = Appender(old)
    appender.committed()
    appender.append(write_shard(rows(["a"]), old.uri, "new", codec), replace=True)
    found = appender.dataset.read(["recording_id"])["recording_id"].to_pylist()
    assert sorted(found) == ["a", "a", "b", "b"]
    assert verify(Dataset.open(old.uri)) == []


def test_a_damaged_file_is_taken_out_by_what_its_rows_say(old) -> None:
    first, second = old.shards()
    pq.write_table(pq.ParquetFile(old.file_uris()[0]).read(), old.file_uris()[0], compression="none")
    newest = damage.take_out(old, damage.find(old))
    assert newest.shards() == [second]
    (gone,) = damage.lost(newest)
    assert (gone.shard, gone.is_known) == (first, True)
    assert damage.unfinished(newest, [gone]) == {recording_key("a")}


def test_columns_that_are_not_ours_are_named(appender, append) -> None:
    (shard,) = append(["a"])
    table = pq.ParquetFile(f"{appender.uri}/{shard.path}").read()
    table = table.append_column("split", pa.array(["train"] * 2)).append_column("mood", pa.array(["x"] * 2))
    table = table.set_column(table.column_names.index("target_length"), "target_length", [["3", "4"]])
    uri = f"{appender.uri}-foreign"
    identity = Identity(appender.dataset.codec, {})
    DeltaTable.create(
        uri, table.schema, partition_by=["split"], configuration=identity.to_configuration(),
        raise_if_key_not_exists=False,
    )  # fmt: skip
    write_deltalake(uri, table, mode="append")
    foreign = Dataset.open(uri)
    assert [problem.what for problem in verify(foreign)] == [
        "the log has no sha256 for it (not written by this program)",
        "its column target_length holds string, must be int32",
        "its column 'mood' is not in docs/data.md",
    ]
    with pytest.raises(JobError, match="its column target_length holds string, must be int32"):
        read_shard(foreign.storage, foreign.shards()[0])
