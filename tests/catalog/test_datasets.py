from __future__ import annotations

import dataclasses
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create, exists
from catalog.datasets import Dataset, Totals, summary
from catalog.shards import write_shard
from catalog.upkeep import compact, verify


def recordings(dataset: Dataset, split: str | None = None) -> list[str]:
    """The recording of every row, sorted."""
    return sorted(
        name for uri in dataset.file_uris(split) for name in pq.read_table(uri)["recording_id"].to_pylist()
    )


def test_empty_dataset(appender, codec) -> None:
    again = create(appender.uri, codec, {"text": "as given", "segmentation": {"max_s": 30.0}})
    assert (again.version, again.shards(), again.totals()) == (0, [], Totals(0, 0, 0, 0.0))
    assert Appender(again).committed().num_rows == 0
    assert again.codec == codec
    assert again.settings == {"segmentation": {"max_s": 30.0}, "text": "as given"}


def test_what_was_appended_is_read(appender, append) -> None:
    train = append(["a", "b"])
    append(["c"], "validation")
    append(["d"], "rejected", "silent")
    again = Dataset.open(appender.uri)
    assert again.version == 3
    assert again.shards() == appender.dataset.shards()
    assert again.shards("train") == train
    assert recordings(again) == ["a", "a", "b", "b", "c", "c", "d"]
    totals = again.totals()
    assert (totals.recordings, totals.utterances, totals.rejected) == (4, 6, 1)
    assert totals.hours == pytest.approx(6 * 0.07 / 3600)
    assert sorted(Appender(again).committed()["recording_id"].to_pylist()) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="split is 'test', must be one of train, validation, rejected"):
        again.shards("test")


def test_jobs_sum_up_what_is_there(appender, append) -> None:
    append([f"r{index}" for index in range(7)])
    append(["x"], "rejected", "silent")
    assert summary(appender.dataset) == {
        "dataset": appender.uri,
        "version": 2,
        "recordings": 8,
        "utterances": 14,
        "rejected": 1,
        "hours": 0.000272,  # 14 utterances, 0.98 s
        "derived": 0,
    }


def test_old_versions_are_read(appender, append) -> None:
    append(["a"])
    append(["b"])
    assert recordings(Dataset.open(appender.uri, 1)) == ["a", "a"]
    with pytest.raises(JobError, match="no version 3; the newest is 2"):
        Dataset.open(appender.uri, 3)


def test_our_reading_of_the_log_is_deltalakes(appender, append, rows, codec) -> None:
    for index in range(55):  # more than a checkpoint's interval
        append([f"r{index}"])
    append(["x"], "rejected", "missing_text")
    append(["x"], retry=["missing_text"])
    compact(appender.dataset, 40_000)
    append(["y"])
    table = DeltaTable(appender.uri)
    again = Dataset.open(appender.uri)
    expected = sorted(appender.dataset.file_uris())
    assert sorted(map(unquote, table.file_uris())) == sorted(again.file_uris()) == expected
    assert set(appender.dataset.shards()) == set(again.shards())
    assert verify(again) == []
    for version in (1, 49, 50, 54, table.version() - 1):
        assert sorted(map(unquote, DeltaTable(appender.uri, version).file_uris())) == sorted(
            Dataset.open(appender.uri, version).file_uris()
        )


def test_another_codec_or_setting_is_refused(appender, codec) -> None:
    other = dataclasses.replace(codec, weights_sha256="11ee", n_codebooks=8)
    with pytest.raises(JobError) as error:
        create(appender.uri, other, {"segmentation": {"max_s": 20.0}, "text": "as given", "loudness": "ebu"})
    assert str(error.value) == (
        f"{appender.uri}: made otherwise: codec.weights_sha256 is '00ff', this job has '11ee'; "
        "codec.n_codebooks is 2, this job has 8; segmentation.max_s is 30.0, this job has 20.0; "
        "loudness is None, this job has 'ebu'; go on with the codec toy@1, or give another output"
    )


def test_files_of_another_codec_are_refused(appender, rows, codec) -> None:
    shards = write_shard(rows(["a"]), appender.uri, "r", dataclasses.replace(codec, edition="2"))
    with pytest.raises(JobError, match="made with another codec than the dataset's toy"):
        appender.append(shards)
    assert appender.dataset.version == 0


def test_a_folder_with_other_things_is_refused(tmp_path, codec) -> None:
    (tmp_path / "README").write_text("mine")
    with pytest.raises(JobError, match="holds README and is not a dataset; give an empty or new folder"):
        create(tmp_path, codec, {})
    assert [path.name for path in tmp_path.iterdir()] == ["README"]


def test_no_dataset(tmp_path) -> None:
    with pytest.raises(JobError, match="nothing: no dataset there"):
        Dataset.open(tmp_path / "nothing")
    DeltaTable.create(str(tmp_path / "delta"), pq.read_schema(_parquet(tmp_path)))
    with pytest.raises(JobError, match=rf"^{tmp_path}/delta: a Delta table, but no dataset"):
        Dataset.open(tmp_path / "delta")


def _parquet(folder):
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), folder / "a.parquet")
    return folder / "a.parquet"


def test_an_unwritable_place_is_one_line(tmp_path, codec) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "data"
    for attempt in (lambda: create(place, codec, {}), lambda: exists(place)):
        with pytest.raises(
            JobError, match=rf"^{place}: cannot create a dataset: {tmp_path}/file is not a folder$"
        ):
            attempt()
    assert not exists(tmp_path / "new" / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "looking makes nothing"


def test_append_is_idempotent(appender, append) -> None:
    shards = append(["a"])
    assert appender.append(shards) == appender.dataset.version == 1
    other = Appender.open(appender.uri)
    other.committed()
    assert other.append(shards) == 1
    assert recordings(other.dataset) == ["a", "a"]


def test_append_wants_a_plan(appender, append, rows, codec) -> None:
    append(["a"])
    shards = write_shard(rows(["b"]), appender.uri, "r", codec)
    with pytest.raises(RuntimeError, match=r"committed\(\)"):
        Appender.open(appender.uri).append(shards)


def test_what_another_job_committed_is_dropped(appender, rows, codec) -> None:
    other = Appender.open(appender.uri)
    other.committed()
    mine = write_shard(rows(["a", "b"]), appender.uri, "mine", codec) + write_shard(
        rows(["c"]), appender.uri, "mine", codec
    )
    theirs = write_shard(rows(["b", "c", "d"]), appender.uri, "theirs", codec)
    other.append(theirs)
    assert appender.append(mine) == 2
    assert recordings(appender.dataset) == ["a", "a", "b", "b", "c", "c", "d", "d"]
    assert appender.append(write_shard(rows(["e"]), appender.uri, "mine", codec)) == 3
    assert verify(appender.dataset) == []


def test_nothing_is_committed_when_another_job_did_it_all(appender, rows, codec) -> None:
    other = Appender.open(appender.uri)
    other.committed()
    mine = write_shard(rows(["a"]), appender.uri, "mine", codec)
    other.append(write_shard(rows(["a"]), appender.uri, "theirs", codec))
    assert appender.append(mine) == 1
    assert recordings(appender.dataset) == ["a", "a"]


def test_retry_replaces_every_row_of_a_recording_in_one_commit(appender, append) -> None:
    append(["a", "b"], "rejected", "missing_text")
    append(["c"], "rejected", "silent")
    append(["d"])
    append(["d"], "rejected", "missing_text")  # a recording with both kinds of rows
    assert sorted(appender.committed(retry=["missing_text"])["recording_id"].to_pylist()) == ["c"]
    before = appender.dataset.version
    append(["a", "d"], retry=["missing_text"])
    assert appender.dataset.version == before + 1
    assert recordings(appender.dataset, "train") == ["a", "a", "d", "d"]
    assert recordings(appender.dataset, "rejected") == ["b", "c"]
    assert verify(appender.dataset) == []


def test_retry_reads_each_old_file_once(appender, append, monkeypatch) -> None:
    """A retry of many commits must not scan the whole dataset at each of them."""
    for index in range(6):
        append([f"r{index}"], "rejected", "missing_text")
    old = {shard.path for shard in appender.dataset.shards()}
    appender.committed(retry=["missing_text"])
    opened: list[str] = []
    real = appender.dataset.storage.open
    monkeypatch.setattr(appender.dataset.storage, "open", lambda path: (opened.append(path), real(path))[1])
    for index in range(6):
        append([f"r{index}"], retry=["missing_text"])
    reads = [opened.count(path) for path in old]
    assert max(reads) <= 2, "once for the index, once when its recording is replaced"
    assert recordings(appender.dataset) == sorted(2 * [f"r{index}" for index in range(6)])
    assert appender.dataset.shards("rejected") == []


def test_retry_follows_a_compaction(appender, append) -> None:
    for name in "abc":
        append([name], "rejected", "missing_text")
    appender.committed(retry=["missing_text"])
    append(["a"], retry=["missing_text"])
    compact(Dataset.open(appender.uri))
    append(["b"], retry=["missing_text"])
    assert recordings(appender.dataset, "rejected") == ["c"]
    assert recordings(appender.dataset, "train") == ["a", "a", "b", "b"]
    assert verify(appender.dataset) == []


def test_retry_does_not_touch_what_was_rejected_otherwise(appender, append, rows, codec) -> None:
    append(["a"], "rejected", "missing_text")
    other = Appender.open(appender.uri)
    other.committed(retry=["missing_text"])
    append(["a"], retry=["missing_text"])
    other.append(write_shard(rows(["a"]), appender.uri, "other", codec), retry=["missing_text"])
    assert recordings(other.dataset) == ["a", "a"]


def test_a_changed_identity_stops_a_running_job(appender, append, rows, codec) -> None:
    other = dataclasses.replace(codec, edition="2")
    DeltaTable(appender.uri).alter.set_table_properties(
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
    """Both plan before either commits; a third one compacts at any time."""
    uri = str(tmp_path_factory.mktemp("two") / "data")
    jobs = [Appender(create(uri, codec, {})), Appender.open(uri)]
    for job in jobs:
        assert job.committed().num_rows == 0
    done: list[set[str]] = [set(), set()]
    for who, wanted in steps:
        if who == COMPACT:
            compact(Dataset.open(uri))
        elif todo := sorted(wanted - done[who]):
            done[who] |= wanted
            jobs[who].append(write_shard(rows(todo), uri, f"job{who}", codec))
    newest = Dataset.open(uri)
    assert recordings(newest) == sorted(2 * [*(done[0] | done[1])])
    assert verify(newest) == []
