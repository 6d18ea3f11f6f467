"""`append(replace=True)`: recordings whose bytes changed are done again, each row of theirs once."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_what_the_plan_had_is_replaced_and_what_is_new_is_added(dataset, append, write) -> None:
    append(["a", "b"])
    append(["a"], "rejected", "silent")  # utterances of one recording in two splits
    dataset.committed()
    assert dataset.append(write(dataset.uri, ["a", "c"], "new"), replace=True) == 3
    kept = [("b", "text of b")] * 2
    assert texts(dataset) == [("a", "new")] * 2 + kept + [("c", "new")] * 2
    assert dataset.shards("rejected") == []
    assert verify(Dataset.open(dataset.uri)) == []
    assert len(texts(Dataset.open(dataset.uri, 2))) == 5, "the old version is as it was"


def test_without_being_asked_nothing_is_replaced(dataset, append, write) -> None:
    append(["a"])
    dataset.committed()
    dataset.append(write(dataset.uri, ["a"], "new"))
    assert len(texts(dataset)) == 4


def test_what_another_job_did_after_the_plan_wins(dataset, append, write) -> None:
    append(["a", "b"])
    jobs = {name: Dataset.open(dataset.uri) for name in ("first", "second")}
    for job in jobs.values():
        job.committed()
    jobs["first"].append(write(dataset.uri, ["a", "c"], "first"), replace=True)
    jobs["second"].append(write(dataset.uri, ["a", "b", "c"], "second"), replace=True)
    newest = Dataset.open(dataset.uri)
    assert texts(newest) == [("a", "first")] * 2 + [("b", "second")] * 2 + [("c", "first")] * 2
    assert verify(newest) == []


def test_it_goes_with_retry(dataset, append, write) -> None:
    append(["a", "b"], "rejected", "missing_text")
    append(["c", "d"])
    dataset.committed(retry=["missing_text"])
    dataset.append(write(dataset.uri, ["a", "c"], "new"), retry=["missing_text"], replace=True)
    kept = [("d", "text of d")] * 2
    assert texts(dataset) == [("a", "new")] * 2 + [("b", None)] + [("c", "new")] * 2 + kept


def test_sound_files_are_not_read(dataset, append, write, codec) -> None:
    """The log says which files hold a recording: a commit must not scan the dataset."""
    shards = [append([f"r{index}"])[0] for index in range(5)]
    dataset.committed()
    for shard in shards[1:]:
        dataset.storage.delete(shard.path)
    dataset.append(write(dataset.uri, ["r0", "new"], "new"), replace=True)
    assert dataset.totals().recordings == 6
    assert shards[0] not in dataset.shards()


def test_many_files(dataset, append, write) -> None:
    """More files than are looked at one by one, before and after the first replacement."""
    for at in range(0, 70, 10):
        shards = [shard for name in range(at, at + 10) for shard in write(dataset.uri, [f"r{name}"], "old")]
        dataset.append(shards)
    dataset.committed()
    again = [f"r{name}" for name in range(0, 70, 9)]
    for name in again:
        dataset.append(write(dataset.uri, [name], "new"), replace=True)
        compact(Dataset.open(dataset.uri), 12_000)
    expected = [(f"r{n}", "new" if f"r{n}" in again else "old") for n in range(70) for _ in range(2)]
    assert texts(dataset) == sorted(expected)


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
    before = Dataset.create(uri, codec, {})
    before.append(write(uri, ["a", "b"], "old") + write(uri, ["c"], "old"))
    handles = {who: Dataset.open(uri) for who in ("one", "two", COMPACT)}
    for who in ("one", "two"):
        handles[who].committed()
    expected = dict.fromkeys("abc", "old")
    first: dict[str, str] = {}
    for who, wanted in steps:
        if who == COMPACT:
            compact(handles[who])
        elif todo := sorted(name for name in wanted if first.get(name) != who):
            handles[who].append(write(uri, todo, who), replace=True)
            for name in todo:
                expected[name] = first.setdefault(name, who)
    newest = Dataset.open(uri)
    assert texts(newest) == sorted((name, text) for name, text in expected.items() for _ in range(2))
    assert verify(newest) == []
