"""Damaged files leave the log with every row of their recordings, and the log remembers what they held."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog import damage
from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import restart
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
    """The first half of `speechmill repair`, before it prepares anything."""
    dataset = damage.take_out(dataset, damage.find(dataset))
    gone = damage.lost(dataset)
    damage.set_aside(dataset, gone)
    return damage.unfinished(dataset, gone)


def test_damaged_files_are_set_aside_and_their_recordings_known(appender, append) -> None:
    flipped, cut, deleted, sound = (append(list(names))[0] for names in ("ab", "c", "de", "f"))
    flip(appender.dataset, flipped)
    Path(appender.uri, cut.path).write_bytes(b"PAR1")
    Path(appender.uri, deleted.path).unlink()
    assert list(damage.find(appender.dataset)) == [flipped.path, cut.path, deleted.path]
    assert repair(appender.dataset) == keys(*"abcde")
    newest = Dataset.open(appender.uri)
    assert newest.shards() == [sound]
    assert verify(newest) == []
    aside = Path(appender.uri, "_corrupt")
    assert {str(path.relative_to(aside)) for path in aside.rglob("*.parquet")} == {flipped.path, cut.path}
    assert history(newest)[-1]["job"] == "repair"
    assert repair(newest) == keys(*"abcde"), "nothing was done about them yet"
    assert newest.version == 5


def test_what_is_there_again_is_no_longer_missing(appender, append, rows, codec) -> None:
    shards = [append([name])[0] for name in "abc"]
    for shard in shards[:2]:
        flip(appender.dataset, shard)
    assert repair(appender.dataset) == keys("a", "b")
    again = Appender.open(appender.uri)
    again.committed()
    again.append(write_shard(rows(["b", "new"]), appender.uri, "again", codec))
    assert damage.unfinished(again.dataset, damage.lost(again.dataset)) == keys("a")
    compact(again.dataset)
    newest = Dataset.open(appender.uri)
    assert damage.unfinished(newest, damage.lost(newest)) == keys("a")


def test_a_recording_with_sound_rows_elsewhere_leaves_whole(appender, append) -> None:
    """Otherwise its sound rows would say that it is done, and the damaged ones would be lost without a word."""
    (train,) = append(["a"])
    (rejected,) = append(["a", "b"], "rejected", "low_dnsmos")
    append(["c"])
    flip(appender.dataset, train)
    assert repair(appender.dataset) == keys("a")
    assert recordings(appender.dataset) == ["b", "c", "c"]
    assert Path(appender.uri, rejected.path).exists(), "older versions have it, and it is sound"
    assert not Path(appender.uri, train.path).exists()
    assert verify(Dataset.open(appender.uri)) == []
    with pytest.raises(JobError, match="version 2 is no longer readable"):
        Dataset.open(appender.uri, 2)


def test_a_kill_before_the_file_was_moved(appender, append) -> None:
    (shard,) = append(["a"])
    flip(appender.dataset, shard)
    damage.take_out(appender.dataset, damage.find(appender.dataset))  # and here it is killed
    again = Dataset.open(appender.uri)
    assert damage.find(again) == {}
    assert repair(again) == keys("a")
    assert Path(appender.uri, "_corrupt", shard.path).exists()


def test_beside_a_job_that_commits(appender, append, rows, codec) -> None:
    shards = [append([name])[0] for name in "ab"]
    flip(appender.dataset, shards[0])
    stale = Dataset.open(appender.uri)
    found = damage.find(stale)
    append(["c"])
    assert damage.take_out(stale, found).version == 4
    assert recordings(stale) == ["b", "b", "c", "c"]
    assert damage.take_out(stale, found).version == 4, "there is nothing left to take out"


def test_names_are_told_where_they_can_be_read(appender, append) -> None:
    codes, ids = (append([name])[0] for name in "ab")
    for shard, column in ((codes, "codes.list.element.list.element"), (ids, "recording_id")):
        group = pq.ParquetFile(f"{appender.uri}/{shard.path}").metadata.row_group(0)
        chunk = next(
            group.column(n) for n in range(group.num_columns) if group.column(n).path_in_schema == column
        )
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        flip(appender.dataset, shard, (start + chunk.total_compressed_size - 1) / shard.size_bytes)
    assert repair(appender.dataset) == keys("a", "b")
    names = {one.shard.path: dict(one.names) for one in damage.lost(appender.dataset)}
    assert names == {codes.path: {recording_key("a"): "a"}, ids.path: {}}


def test_what_was_lost_before_a_restart_is_no_matter(appender, append, codec) -> None:
    (shard,) = append(["a"])
    flip(appender.dataset, shard)
    assert repair(appender.dataset) == keys("a")
    made = restart(appender.uri, dataclasses.replace(codec, edition="2"), {})
    assert damage.lost(made) == []


def test_a_file_that_cannot_be_read_now_is_not_given_up(appender, append) -> None:
    (shard,) = append(["a"])
    file = Path(appender.uri, shard.path)
    file.unlink()
    file.mkdir()
    with pytest.raises(JobError, match=f"{file}: cannot be read: Is a directory"):
        damage.find(appender.dataset)
    assert [problem.what for problem in verify(appender.dataset)] == ["cannot be read: Is a directory"]


def test_contents_of_a_file_are_told_before_it_is_taken_out(appender, append) -> None:
    first, second = (append(list(names))[0] for names in ("ab", "c"))
    Path(appender.uri, second.path).unlink()
    assert damage.describe(appender.dataset, [second.path, first.path]) == [
        damage.Lost(second, False, keys("c"), {}),
        damage.Lost(first, False, keys("a", "b"), {recording_key(name): name for name in "ab"}),
    ]


def test_rows_that_were_carried_are_perhaps_of_other_runs(appender, append) -> None:
    for name in "ab":
        append([name])
    compact(appender.dataset)
    alone = append(["c"])[0]
    (merged,) = set(Dataset.open(appender.uri).files) - {alone}
    for shard in (merged, alone):
        flip(appender.dataset, shard)
    assert repair(Dataset.open(appender.uri)) == keys("a", "b", "c")
    assert {one.shard: one.carried for one in damage.lost(appender.dataset)} == {merged: True, alone: False}


@pytest.mark.parametrize(
    ("packed", "recordings", "found", "known"),
    [("KEYS", 2, "", True), ("", 2, "ab", True), ("", 2, "a", False), ("", 0, "", False)],
)
def test_an_older_log_may_not_say_what_was_lost(append, packed, recordings, found, known) -> None:
    shard = dataclasses.replace(append(["a"])[0], recording_keys=packed, recordings=recordings)
    assert damage.Lost(shard, False, keys(*found), {}).is_known == known
