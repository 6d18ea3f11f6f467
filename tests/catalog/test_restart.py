"""A dataset is started over with another codec or other settings."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create, restart
from catalog.datasets import Dataset
from catalog.identity import Identity
from catalog.shards import write_shard
from catalog.table import load, replace
from catalog.upkeep import compact, history, vacuum, verify
from models.identity import TokenIdentity

REPOSITORY = Path(__file__).resolve().parents[2]

# Commits one recording after the other, for ever, and says so each time.
JOB = """
import itertools, sys
import pyarrow as pa
from catalog.appending import Appender
from catalog.shards import write_shard
appender = Appender.open(sys.argv[1])
appender.committed()
for name in map(str, itertools.count()):
    row = {"id": [name], "recording_id": [name], "codes": [[[1], [2]]], "target_length": [1], "split": ["train"]}
    appender.append(write_shard(pa.table(row), appender.uri, "job", appender.dataset.codec))
    print("committed", flush=True)
"""


@pytest.fixture
def other(codec: TokenIdentity) -> TokenIdentity:
    return dataclasses.replace(codec, name="other", edition="2")


def test_old_versions_stay_and_the_new_one_is_empty(appender, append, rows, codec, other) -> None:
    append(["a"])
    append(["b"], "rejected", "silent")
    compact(appender.dataset)
    made = restart(appender.uri, other, {"text": "none"})
    assert (made.shards(), made.codec, made.settings) == ([], other, {"text": "none"})
    assert made.version == 3
    again = Appender(made)
    assert again.committed().num_rows == 0
    again.append(write_shard(rows(["a"]), made.uri, "new", other))
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
    assert create(made.uri, other, {"text": "none"}).version == 4
    with pytest.raises(JobError, match=r"made otherwise: codec.name is 'other', this job has 'toy'"):
        create(made.uri, codec, {"text": "none"})
    assert vacuum(newest, 0)["unreadable_versions"] == [1, 2]
    assert verify(Dataset.open(made.uri)) == []


def test_the_same_command_again_goes_on(appender, append, rows, other) -> None:
    append(["a"])
    made = restart(appender.uri, other, {})
    Appender(made).append(write_shard(rows(["a"]), made.uri, "new", other))
    again = restart(appender.uri, other, {})
    assert (again.version, again.totals().recordings) == (3, 1)


def test_where_nothing_is_a_dataset_is_made(tmp_path, codec) -> None:
    tokens = TokenIdentity("semantic", "2", "22ee", 16000, 320, 1, 50)
    made = restart(tmp_path / "new", codec, {"text": "none"}, {"semantic_codes": tokens})
    assert (made.version, made.identity) == (0, Identity(codec, {"text": "none"}, {"semantic_codes": tokens}))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(JobError, match=r"holds mine.txt and is not a dataset"):
        restart(tmp_path / "full", codec, {})


@pytest.mark.parametrize("there_and_back", [False, True])
def test_a_running_job_of_the_old_rows_is_refused_for_good(
    there_and_back, appender, append, rows, codec, other
) -> None:
    append(["a"])
    stale = Appender.open(appender.uri)
    stale.committed()
    restart(appender.uri, other, {})
    why = r"changed while this job ran: codec.name is 'toy', this job has 'other'"
    if there_and_back:
        restart(appender.uri, codec, appender.dataset.settings)
        why = "changed while this job ran: it was started over"
    for _ in range(2):  # a job commits once more when it fails
        with pytest.raises(JobError, match=why):
            stale.append(write_shard(rows(["b"]), appender.uri, "stale", codec))
    newest = Dataset.open(appender.uri)
    assert (newest.shards(), newest.version) == ([], 3 if there_and_back else 2)


def test_starting_over_beside_a_job_that_commits(appender, other) -> None:
    words = [sys.executable, "-c", JOB, appender.uri]
    with subprocess.Popen(
        words, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout.readline() == "committed\n"
        made = restart(appender.uri, other, {})
        _, error = job.communicate()
    assert "JobError" in error
    assert "changed while this job ran: codec.name is 'toy', this job has 'other'" in error
    newest = Dataset.open(appender.uri)
    assert (newest.version, newest.shards(), newest.codec) == (made.version, [], other)


def test_a_commit_before_the_restart_leaves_with_the_others(appender, append, other) -> None:
    stale = Dataset.open(appender.uri)
    append(["a"])
    assert replace(load(appender.uri, stale.version), appender.uri, Identity(other, {}))
    newest = Dataset.open(appender.uri)
    assert (newest.version, newest.shards()) == (2, [])
    assert [path.name for path in Path(appender.uri).glob("split=train/*")] == [
        Path(shard.path).name for shard in Dataset.open(appender.uri, 1).shards()
    ]
