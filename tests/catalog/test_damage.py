"""Damaged files leave the log with every row of their recordings, and the log remembers what they held."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog import damage
from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.recordings import recording_key
from catalog.schema import Shard
from catalog.shards import read_columns, write_shard
from catalog.upkeep import compact, history, verify


def flip(dataset: Dataset, shard: Shard, at: float = 0.5) -> None:
    file = Path(dataset.uri, shard.path)
    data = bytearray(file.read_bytes())
    data[int(at * len(data))] ^= 4
    file.write_bytes(data)


def recordings(dataset: Dataset) -> list[str]:
    rows = read_columns(dataset.storage, Dataset.open(dataset.uri).shards(), ["recording_id"])
    return sorted(rows["recording_id"].to_pylist())


def keys(*names: str) -> frozenset[bytes]:
    return frozenset(map(recording_key, names))


def repair(dataset: Dataset) -> frozenset[bytes]:
    """What `speechmill repair` does before it prepares anything."""
    damage.take_out(dataset, damage.find(dataset))
    gone = damage.lost(dataset)
    damage.set_aside(dataset, gone)
    return damage.unfinished(dataset, gone)


def test_damaged_files_are_set_aside_and_their_recordings_known(dataset, append) -> None:
    flipped, cut, deleted, sound = (append(list(names))[0] for names in ("ab", "c", "de", "f"))
    flip(dataset, flipped)
    Path(dataset.uri, cut.path).write_bytes(b"PAR1")
    Path(dataset.uri, deleted.path).unlink()
    assert list(damage.find(dataset)) == [flipped.path, cut.path, deleted.path]
    assert repair(dataset) == keys(*"abcde")
    newest = Dataset.open(dataset.uri)
    assert newest.shards() == [sound]
    assert verify(newest) == []
    aside = Path(dataset.uri, "_corrupt")
    assert {str(path.relative_to(aside)) for path in aside.rglob("*.parquet")} == {flipped.path, cut.path}
    assert history(newest)[-1]["job"] == "repair"
    assert repair(newest) == keys(*"abcde"), "nothing was done about them yet"
    assert newest.version == 5


def test_what_is_there_again_is_no_longer_missing(dataset, append, rows, codec) -> None:
    shards = [append([name])[0] for name in "abc"]
    for shard in shards[:2]:
        flip(dataset, shard)
    assert repair(dataset) == keys("a", "b")
    dataset.committed()
    dataset.append(write_shard(rows(["b", "new"]), dataset.uri, "again", codec))
    assert damage.unfinished(dataset, damage.lost(Dataset.open(dataset.uri))) == keys("a")
    compact(dataset)
    assert damage.unfinished(dataset, damage.lost(dataset)) == keys("a")


def test_a_recording_with_sound_rows_elsewhere_leaves_whole(dataset, append) -> None:
    """Otherwise its sound rows would say that it is done, and the damaged ones would be lost without a word."""
    (train,) = append(["a"])
    (rejected,) = append(["a", "b"], "rejected", "low_dnsmos")
    append(["c"])
    flip(dataset, train)
    assert repair(dataset) == keys("a")
    assert recordings(dataset) == ["b", "c", "c"]
    assert Path(dataset.uri, rejected.path).exists(), "older versions have it, and it is sound"
    assert not Path(dataset.uri, train.path).exists()
    assert verify(Dataset.open(dataset.uri)) == []
    with pytest.raises(JobError, match="version 2 is no longer readable"):
        Dataset.open(dataset.uri, 2)


def test_a_kill_before_the_file_was_moved(dataset, append) -> None:
    (shard,) = append(["a"])
    flip(dataset, shard)
    damage.take_out(dataset, damage.find(dataset))  # and here it is killed
    again = Dataset.open(dataset.uri)
    assert damage.find(again) == {}
    assert repair(again) == keys("a")
    assert Path(dataset.uri, "_corrupt", shard.path).exists()


def test_beside_a_job_that_commits(dataset, append, rows, codec) -> None:
    shards = [append([name])[0] for name in "ab"]
    flip(dataset, shards[0])
    stale = Dataset.open(dataset.uri)
    found = damage.find(stale)
    append(["c"])
    damage.take_out(stale, found)
    assert recordings(stale) == ["b", "b", "c", "c"]
    damage.take_out(stale, found)
    assert stale.version == 4, "there is nothing left to take out"


def test_names_are_told_where_they_can_be_read(dataset, append) -> None:
    codes, ids = (append([name])[0] for name in "ab")
    for shard, column in ((codes, "codes.list.element.list.element"), (ids, "recording_id")):
        group = pq.ParquetFile(f"{dataset.uri}/{shard.path}").metadata.row_group(0)
        chunk = next(
            group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == column
        )
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        flip(dataset, shard, (start + chunk.total_compressed_size - 1) / shard.size_bytes)
    assert repair(dataset) == keys("a", "b")
    names = {one.shard.path: dict(one.names) for one in damage.lost(dataset)}
    assert names == {codes.path: {recording_key("a"): "a"}, ids.path: {}}


def test_what_was_lost_before_a_restart_is_no_matter(dataset, append, codec) -> None:
    (shard,) = append(["a"])
    flip(dataset, shard)
    assert repair(dataset) == keys("a")
    made = Dataset.restart(dataset.uri, dataclasses.replace(codec, edition="2"), {})
    assert damage.lost(made) == []


def test_a_file_that_cannot_be_read_now_is_not_given_up(dataset, append) -> None:
    (shard,) = append(["a"])
    file = Path(dataset.uri, shard.path)
    file.unlink()
    file.mkdir()
    with pytest.raises(JobError, match=f"{file}: cannot be read: Is a directory"):
        damage.find(dataset)
    assert [problem.what for problem in verify(dataset)] == ["cannot be read: Is a directory"]
