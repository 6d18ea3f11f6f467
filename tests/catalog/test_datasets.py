from __future__ import annotations

import dataclasses

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.command import JobError
from catalog.datasets import Dataset, Totals
from catalog.shards import write_shard
from catalog.upkeep import compact, verify


def recordings(dataset: Dataset, split: str | None = None) -> list[str]:
    """The recording of every row, sorted."""
    return sorted(
        name for uri in dataset.file_uris(split) for name in pq.read_table(uri)["recording_id"].to_pylist()
    )


def test_empty_dataset(dataset, codec) -> None:
    again = Dataset.create(dataset.uri, codec, {"text": "as given", "segmentation": {"max_s": 30.0}})
    assert (again.version, again.shards(), again.totals()) == (0, [], Totals(0, 0, 0, 0.0))
    assert again.committed().num_rows == 0
    assert again.codec == codec
    assert again.settings == {"segmentation": {"max_s": 30.0}, "text": "as given"}


def test_what_was_appended_is_read(dataset, append) -> None:
    train = append(["a", "b"])
    append(["c"], "validation")
    append(["d"], "rejected", "silent")
    again = Dataset.open(dataset.uri)
    assert again.version == 3
    assert again.shards() == dataset.shards()
    assert again.shards("train") == train
    assert recordings(again) == ["a", "a", "b", "b", "c", "c", "d"]
    totals = again.totals()
    assert (totals.recordings, totals.utterances, totals.rejected) == (4, 6, 1)
    assert totals.hours == pytest.approx(6 * 0.07 / 3600)
    assert sorted(again.committed()["recording_id"].to_pylist()) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="split is 'test', must be one of train, validation, rejected"):
        again.shards("test")


def test_old_versions_are_read(dataset, append) -> None:
    append(["a"])
    append(["b"])
    assert recordings(Dataset.open(dataset.uri, 1)) == ["a", "a"]
    with pytest.raises(JobError, match="no version 3; the newest is 2"):
        Dataset.open(dataset.uri, 3)


def test_our_reading_of_the_log_is_deltalakes(dataset, append, rows, codec) -> None:
    for index in range(55):  # more than a checkpoint's interval
        append([f"r{index}"])
    append(["x"], "rejected", "missing_text")
    append(["x"], retry=["missing_text"])
    compact(dataset, 40_000)
    append(["y"])
    table = DeltaTable(dataset.uri)
    again = Dataset.open(dataset.uri)
    assert sorted(table.file_uris()) == sorted(again.file_uris()) == sorted(dataset.file_uris())
    assert set(dataset.shards()) == set(again.shards())
    assert verify(again) == []
    for version in (1, 49, 50, 54, table.version() - 1):
        assert sorted(DeltaTable(dataset.uri, version).file_uris()) == sorted(
            Dataset.open(dataset.uri, version).file_uris()
        )


def test_another_codec_or_setting_is_refused(dataset, codec) -> None:
    other = dataclasses.replace(codec, weights_sha256="11ee", n_codebooks=8)
    with pytest.raises(JobError) as error:
        Dataset.create(
            dataset.uri, other, {"segmentation": {"max_s": 20.0}, "text": "as given", "loudness": "ebu"}
        )
    assert str(error.value) == (
        f"{dataset.uri}: made otherwise: codec.weights_sha256 is '00ff', this job has '11ee'; "
        "codec.n_codebooks is 2, this job has 8; segmentation.max_s is 30.0, this job has 20.0; "
        "loudness is None, this job has 'ebu'; go on with the codec toy@1, or give another output"
    )


def test_files_of_another_codec_are_refused(dataset, rows, codec) -> None:
    shards = write_shard(rows(["a"]), dataset.uri, "r", dataclasses.replace(codec, edition="2"))
    with pytest.raises(JobError, match="made with another codec than the dataset's toy"):
        dataset.append(shards)
    assert dataset.version == 0


def test_a_folder_with_other_things_is_refused(tmp_path, codec) -> None:
    (tmp_path / "README").write_text("mine")
    with pytest.raises(JobError, match="holds README and is not a dataset; give an empty or new folder"):
        Dataset.create(tmp_path, codec, {})
    assert [path.name for path in tmp_path.iterdir()] == ["README"]


def test_no_dataset(tmp_path) -> None:
    with pytest.raises(JobError, match="nothing: no dataset there"):
        Dataset.open(tmp_path / "nothing")
    DeltaTable.create(str(tmp_path / "delta"), pq.read_schema(_parquet(tmp_path)))
    with pytest.raises(JobError, match="a Delta table, but no dataset"):
        Dataset.open(tmp_path / "delta")


def _parquet(folder):
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), folder / "a.parquet")
    return folder / "a.parquet"


def test_an_unwritable_place_is_one_line(tmp_path, codec) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JobError, match="file/data: cannot create a dataset: "):
        Dataset.create(tmp_path / "file" / "data", codec, {})


def test_append_is_idempotent(dataset, append) -> None:
    shards = append(["a"])
    assert dataset.append(shards) == dataset.version == 1
    other = Dataset.open(dataset.uri)
    other.committed()
    assert other.append(shards) == 1
    assert recordings(other) == ["a", "a"]


def test_append_wants_a_plan(dataset, append, rows, codec) -> None:
    append(["a"])
    shards = write_shard(rows(["b"]), dataset.uri, "r", codec)
    with pytest.raises(RuntimeError, match=r"committed\(\)"):
        Dataset.open(dataset.uri).append(shards)


def test_what_another_job_committed_is_dropped(dataset, rows, codec) -> None:
    other = Dataset.open(dataset.uri)
    other.committed()
    mine = write_shard(rows(["a", "b"]), dataset.uri, "mine", codec) + write_shard(
        rows(["c"]), dataset.uri, "mine", codec
    )
    theirs = write_shard(rows(["b", "c", "d"]), dataset.uri, "theirs", codec)
    other.append(theirs)
    assert dataset.append(mine) == 2
    assert recordings(dataset) == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert dataset.append(write_shard(rows(["e"]), dataset.uri, "mine", codec)) == 3
    assert verify(dataset) == []


def test_nothing_is_committed_when_another_job_did_it_all(dataset, rows, codec) -> None:
    other = Dataset.open(dataset.uri)
    other.committed()
    mine = write_shard(rows(["a"]), dataset.uri, "mine", codec)
    other.append(write_shard(rows(["a"]), dataset.uri, "theirs", codec))
    assert dataset.append(mine) == 1
    assert recordings(dataset) == ["a", "a"]


def test_retry_replaces_every_row_of_a_recording_in_one_commit(dataset, append) -> None:
    append(["a", "b"], "rejected", "missing_text")
    append(["c"], "rejected", "silent")
    append(["d"])
    append(["d"], "rejected", "missing_text")  # a recording with both kinds of rows
    assert sorted(dataset.committed(retry=["missing_text"])["recording_id"].to_pylist()) == ["c"]
    before = dataset.version
    append(["a", "d"], retry=["missing_text"])
    assert dataset.version == before + 1
    assert recordings(dataset, "train") == ["a", "a", "d", "d"]
    assert recordings(dataset, "rejected") == ["b", "c"]
    assert verify(dataset) == []


def test_retry_reads_each_old_file_once(dataset, append, monkeypatch) -> None:
    """A retry of many commits must not scan the whole dataset at each of them."""
    for index in range(6):
        append([f"r{index}"], "rejected", "missing_text")
    old = {shard.path for shard in dataset.shards()}
    dataset.committed(retry=["missing_text"])
    opened: list[str] = []
    real = dataset.storage.open
    monkeypatch.setattr(dataset.storage, "open", lambda path: (opened.append(path), real(path))[1])
    for index in range(6):
        append([f"r{index}"], retry=["missing_text"])
    reads = [opened.count(path) for path in old]
    assert max(reads) <= 2, "once for the index, once when its recording is replaced"
    assert recordings(dataset) == sorted(2 * [f"r{index}" for index in range(6)])
    assert dataset.shards("rejected") == []


def test_retry_follows_a_compaction(dataset, append) -> None:
    for name in "abc":
        append([name], "rejected", "missing_text")
    dataset.committed(retry=["missing_text"])
    append(["a"], retry=["missing_text"])
    compact(Dataset.open(dataset.uri))
    append(["b"], retry=["missing_text"])
    assert recordings(dataset, "rejected") == ["c"]
    assert recordings(dataset, "train") == ["a", "a", "b", "b"]
    assert verify(dataset) == []


def test_retry_does_not_touch_what_was_rejected_otherwise(dataset, append, rows, codec) -> None:
    append(["a"], "rejected", "missing_text")
    other = Dataset.open(dataset.uri)
    other.committed(retry=["missing_text"])
    append(["a"], retry=["missing_text"])
    other.append(write_shard(rows(["a"]), dataset.uri, "other", codec), retry=["missing_text"])
    assert recordings(other) == ["a", "a"]


def test_remove_and_append_are_one_commit(dataset, append) -> None:
    (bad,) = append(["a"])
    append(["a"], remove=[bad.path])
    assert dataset.version == 2
    assert recordings(dataset) == ["a", "a"]
    with pytest.raises(JobError, match=f"version 2 has no file {bad.path}"):
        dataset.append([], remove=[bad.path])
    dataset.append([], remove=[dataset.shards()[0].path])
    assert dataset.shards() == []


def test_a_changed_identity_stops_a_running_job(dataset, append, rows, codec) -> None:
    other = dataclasses.replace(codec, edition="2")
    DeltaTable(dataset.uri).alter.set_table_properties(
        {"speechmill.codec": other.to_json()}, raise_if_not_exists=False
    )
    with pytest.raises(JobError, match=r"changed while this job ran: codec.edition is '1', this job has '2'"):
        append(["a"])


COMPACT = 2


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, COMPACT]), st.sets(st.sampled_from("abcdef"), min_size=1, max_size=3)
        ),
        min_size=1,
        max_size=7,
    )
)
@settings(max_examples=15, deadline=None)
def test_any_order_of_two_jobs_commits_each_recording_once(tmp_path_factory, codec, rows, steps) -> None:
    """Both plan before either commits; a third handle compacts at any time."""
    uri = str(tmp_path_factory.mktemp("two") / "data")
    handles = [Dataset.create(uri, codec, {}), Dataset.open(uri), Dataset.open(uri)]
    for job in handles[:2]:
        assert job.committed().num_rows == 0
    done: list[set[str]] = [set(), set()]
    for who, wanted in steps:
        if who == COMPACT:
            compact(handles[who])
        elif todo := sorted(wanted - done[who]):
            done[who] |= wanted
            handles[who].append(write_shard(rows(todo), uri, f"job{who}", codec))
    newest = Dataset.open(uri)
    assert recordings(newest) == sorted(2 * [*(done[0] | done[1])])
    assert verify(newest) == []
