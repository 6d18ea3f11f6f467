"""`append(replace=True)`: recordings whose bytes changed are done again, each row of theirs once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.appending import Appender
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.shards import write_shard
from catalog.upkeep import compact, verify


def texts(dataset: Dataset) -> list[tuple[str, str | None]]:
    """Recording and text of every row, sorted."""
    tables = [pq.ParquetFile(uri).read(["recording_id", "text"]) for uri in dataset.file_uris()]
    return sorted(
        ((row["recording_id"], row["text"]) for table in tables for row in table.to_pylist()), key=str
    )


@pytest.fixture(scope="module")
def write(rows, codec):
    """Write (without committing) two rows of each recording, all with this text."""

    def written(uri: str, recordings: list[str], text: str):
        table = rows(recordings)
        table = table.set_column(table.column_names.index("text"), "text", pa.array([text] * table.num_rows))
        return write_shard(table, uri, text, codec)

    return written


def test_what_the_plan_had_is_replaced_and_what_is_new_is_added(appender, append, write) -> None:
    append(["a", "b"])
    append(["a"], "rejected", "silent")  # utterances of one recording in two splits
    appender.committed()
    assert appender.append(write(appender.uri, ["a", "c"], "new"), replace=True) == 3
    kept = [("b", "text of b")] * 2
    assert texts(appender.dataset) == [("a", "new")] * 2 + kept + [("c", "new")] * 2
    assert appender.dataset.shards("rejected") == []
    assert verify(Dataset.open(appender.uri)) == []
    assert len(texts(Dataset.open(appender.uri, 2))) == 5, "the old version is as it was"


def test_without_being_asked_nothing_is_replaced(appender, append, write) -> None:
    append(["a"])
    appender.committed()
    appender.append(write(appender.uri, ["a"], "new"))
    assert len(texts(appender.dataset)) == 4


def test_what_another_job_did_after_the_plan_wins(appender, append, write) -> None:
    append(["a", "b"])
    jobs = {name: Appender.open(appender.uri) for name in ("first", "second")}
    for job in jobs.values():
        job.committed()
    jobs["first"].append(write(appender.uri, ["a", "c"], "first"), replace=True)
    jobs["second"].append(write(appender.uri, ["a", "b", "c"], "second"), replace=True)
    newest = Dataset.open(appender.uri)
    assert texts(newest) == [("a", "first")] * 2 + [("b", "second")] * 2 + [("c", "first")] * 2
    assert verify(newest) == []


def test_of_several_files_only_taken_recordings_are_dropped(appender, append, write) -> None:
    append(["old"])
    first, second = Appender.open(appender.uri), Appender.open(appender.uri)
    for job in (first, second):
        job.committed()
    first.append(write(appender.uri, ["b", "d"], "first"))
    files = [write(appender.uri, recordings, "second") for recordings in (["a"], ["b", "c"], ["d"], ["e"])]
    second.append([shard for shards in files for shard in shards])
    newest = Dataset.open(appender.uri)
    made_by = {"a": "second", "b": "first", "c": "second", "d": "first", "e": "second", "old": "text of old"}
    assert texts(newest) == [row for row in made_by.items() for _ in range(2)]
    assert verify(newest) == []


def test_it_goes_with_retry(appender, append, write) -> None:
    append(["a", "b"], "rejected", "missing_text")
    append(["c", "d"])
    appender.committed(retry=["missing_text"])
    appender.append(write(appender.uri, ["a", "c"], "new"), retry=["missing_text"], replace=True)
    kept = [("d", "text of d")] * 2
    assert texts(appender.dataset) == [("a", "new")] * 2 + [("b", None)] + [("c", "new")] * 2 + kept


def test_sound_files_are_not_read(appender, append, write, codec) -> None:
    """The log says which files hold a recording: a commit must not scan the dataset."""
    shards = [append([f"r{index}"])[0] for index in range(5)]
    appender.committed()
    for shard in shards[1:]:
        appender.dataset.storage.delete(shard.path)
    appender.append(write(appender.uri, ["r0", "new"], "new"), replace=True)
    assert appender.dataset.totals().recordings == 6
    assert shards[0] not in appender.dataset.shards()


def test_many_files(appender, append, write) -> None:
    """More files than are looked at one by one, before and after the first replacement."""
    for at in range(0, 70, 10):
        shards = [shard for name in range(at, at + 10) for shard in write(appender.uri, [f"r{name}"], "old")]
        appender.append(shards)
    appender.committed()
    again = [f"r{name}" for name in range(0, 70, 9)]
    for name in again:
        appender.append(write(appender.uri, [name], "new"), replace=True)
        compact(Dataset.open(appender.uri), 12_000)
    expected = [(f"r{n}", "new" if f"r{n}" in again else "old") for n in range(70) for _ in range(2)]
    assert texts(appender.dataset) == sorted(expected)


COMPACT = "compact"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["one", "two", COMPACT]),
            st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=7,
    )
)
@settings(max_examples=12, deadline=None)
def test_any_order_of_two_jobs_leaves_each_recording_once(
    tmp_path_factory, codec, rows, write, steps
) -> None:
    """Both plan before either commits; `a` to `c` were there before; whoever commits a recording first wins."""
    uri = str(tmp_path_factory.mktemp("two") / "data")
    Appender(create(uri, codec, {})).append(write(uri, ["a", "b"], "old") + write(uri, ["c"], "old"))
    jobs = {who: Appender.open(uri) for who in ("one", "two")}
    for job in jobs.values():
        job.committed()
    expected = dict.fromkeys("abc", "old")
    first: dict[str, str] = {}
    for who, wanted in steps:
        if who == COMPACT:
            compact(Dataset.open(uri))
        elif todo := sorted(name for name in wanted if first.get(name) != who):
            jobs[who].append(write(uri, todo, who), replace=True)
            for name in todo:
                expected[name] = first.setdefault(name, who)
    newest = Dataset.open(uri)
    assert texts(newest) == sorted((name, text) for name, text in expected.items() for _ in range(2))
    assert verify(newest) == []
