"""A dataset is started over with another codec or other settings."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.identity import Identity
from catalog.shards import write_shard
from catalog.table import replace
from catalog.upkeep import compact, history, vacuum, verify
from models.identity import TokenIdentity

# Commits one recording after the other, for ever, and says so each time.
JOB = """
import itertools, sys
import pyarrow as pa
from catalog.datasets import Dataset
from catalog.shards import write_shard
dataset = Dataset.open(sys.argv[1])
dataset.committed()
for name in map(str, itertools.count()):
    row = {"id": [name], "recording_id": [name], "codes": [[[1], [2]]], "target_length": [1], "split": ["train"]}
    dataset.append(write_shard(pa.table(row), dataset.uri, "job", dataset.codec))
    print("committed", flush=True)
"""


@pytest.fixture
def other(codec: TokenIdentity) -> TokenIdentity:
    return dataclasses.replace(codec, name="other", edition="2")


def test_old_versions_stay_and_the_new_one_is_empty(dataset, append, rows, codec, other) -> None:
    append(["a"])
    append(["b"], "rejected", "silent")
    compact(dataset)
    made = Dataset.restart(dataset.uri, other, {"text": "none"})
    assert (made.shards(), made.codec, made.settings) == ([], other, {"text": "none"})
    assert made.version == 3
    assert made.committed().num_rows == 0
    made.append(write_shard(rows(["a"]), made.uri, "new", other))
    newest, old = Dataset.open(made.uri), Dataset.open(made.uri, 2)
    assert (newest.version, newest.totals().recordings) == (4, 1)
    assert (old.codec, old.settings["text"], old.totals().recordings) == (codec, "as given", 2)
    assert verify(newest) == verify(old) == []
    assert [one["job"] for one in history(newest)] == [
        "CREATE TABLE",
        "prepare",
        "prepare",
        "restart",
        "prepare",
    ]
    assert Dataset.create(made.uri, other, {"text": "none"}).version == 4
    with pytest.raises(JobError, match=r"made otherwise: codec.name is 'other', this job has 'toy'"):
        Dataset.create(made.uri, codec, {"text": "none"})
    assert vacuum(newest, 0)["unreadable_versions"] == [1, 2]
    assert verify(Dataset.open(made.uri)) == []


def test_the_same_command_again_goes_on(dataset, append, rows, other) -> None:
    append(["a"])
    made = Dataset.restart(dataset.uri, other, {})
    made.append(write_shard(rows(["a"]), made.uri, "new", other))
    again = Dataset.restart(dataset.uri, other, {})
    assert (again.version, again.totals().recordings) == (3, 1)


def test_where_nothing_is_a_dataset_is_made(tmp_path, codec) -> None:
    assert Dataset.restart(tmp_path / "new", codec, {}).version == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(JobError, match=r"holds mine.txt and is not a dataset"):
        Dataset.restart(tmp_path / "full", codec, {})


@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_running_job_of_the_old_rows_is_refused_for_good(
    there_and_back, dataset, append, rows, codec, other
) -> None:
    append(["a"])
    stale = Dataset.open(dataset.uri)
    stale.committed()
    Dataset.restart(dataset.uri, other, {})
    why = r"changed while this job ran: codec.name is 'toy', this job has 'other'"
    if there_and_back:
        Dataset.restart(dataset.uri, codec, dataset.settings)
        why = "changed while this job ran: it was started over"
    for _ in range(2):  # a job commits once more when it fails
        with pytest.raises(JobError, match=why):
            stale.append(write_shard(rows(["b"]), dataset.uri, "stale", codec))
    newest = Dataset.open(dataset.uri)
    assert (newest.shards(), newest.version) == ([], 3 if there_and_back else 2)


def test_starting_over_beside_a_job_that_commits(dataset, other) -> None:
    words = [sys.executable, "-c", JOB, dataset.uri]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout.readline() == "committed\n"
        made = Dataset.restart(dataset.uri, other, {})
        _, error = job.communicate()
    assert "JobError" in error
    assert "changed while this job ran: codec.name is 'toy', this job has 'other'" in error
    newest = Dataset.open(dataset.uri)
    assert (newest.version, newest.shards(), newest.codec) == (made.version, [], other)


def test_a_commit_before_the_restart_leaves_with_the_others(dataset, append, other) -> None:
    stale = Dataset.open(dataset.uri)
    append(["a"])
    assert replace(stale._table, dataset.uri, Identity(other, {}))
    newest = Dataset.open(dataset.uri)
    assert (newest.version, newest.shards()) == (2, [])
    assert [path.name for path in Path(dataset.uri).glob("split=train/*")] == [
        Path(shard.path).name for shard in Dataset.open(dataset.uri, 1).shards()
    ]
