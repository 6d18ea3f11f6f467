"""Processes that are killed, or that work on one dataset at the same time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.datasets import Dataset
from catalog.runs import ABANDONED_AFTER_S, delete_abandoned, marked_run
from catalog.shards import run_id_of, write_shard
from catalog.upkeep import verify

REPOSITORY = Path(__file__).resolve().parents[2]

# Argument 1 is the dataset, the others are recordings. One file and one commit for each pair of them; says what it did
# and waits for a line of standard input where the test may want to kill it.
JOB = """
import sys
import pyarrow as pa
from catalog.appending import Appender
from catalog.runs import marked_run
from catalog.shards import write_shard
uri, names = sys.argv[1], sys.argv[2:]
appender = Appender.open(uri)
done = set(appender.committed()["recording_id"].to_pylist())
names = [name for name in names if name not in done]
with marked_run(appender.dataset) as run_id:
    print("ready", flush=True)
    sys.stdin.readline()
    for at in range(0, len(names), 2):
        two = names[at : at + 2]
        rows = {"id": [f"{n}-0" for n in two], "recording_id": two, "codes": [[[1, 2], [3, 4]]] * len(two),
                "target_length": [2] * len(two), "duration_s": [0.04] * len(two), "split": ["train"] * len(two)}
        shards = write_shard(pa.table(rows), uri, run_id, appender.dataset.codec)
        print("written", shards[0].path, flush=True)
        appender.append(shards)
        print("committed", flush=True)
"""


def start(uri: str, names: list[str]) -> subprocess.Popen[str]:
    job = subprocess.Popen(
        [sys.executable, "-c", JOB, uri, *names],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert job.stdout.readline() == "ready\n"
    return job


def go(job: subprocess.Popen[str]) -> None:
    job.stdin.write("\n")
    job.stdin.flush()


def finish(job: subprocess.Popen[str]) -> None:
    if job.poll() is None:
        job.communicate("\n")
    assert job.returncode == 0


def rows_by_recording(uri: str) -> Counter[str]:
    return Counter(
        name
        for file in Dataset.open(uri).file_uris()
        for name in pq.read_table(file)["recording_id"].to_pylist()
    )


def files(uri: str) -> set[str]:
    return {
        path.relative_to(uri).as_posix()
        for path in Path(uri).rglob("*.parquet")
        if "_delta_log" not in str(path)
    }


def test_two_processes_offering_the_same_recordings(appender) -> None:
    names = [f"r{index:02}" for index in range(24)]
    jobs = [start(appender.uri, names), start(appender.uri, names[::-1])]
    for job in jobs:
        go(job)
    for job in jobs:
        finish(job)
    assert rows_by_recording(appender.uri) == Counter(names)
    newest = Dataset.open(appender.uri)
    assert verify(newest) == []
    assert files(appender.uri) == {shard.path for shard in newest.shards()}


def test_killed_between_any_two_steps_and_run_again(appender) -> None:
    names = [f"r{index:02}" for index in range(12)]
    written = 0
    for steps in (1, 2, 5):  # lines read before the kill: an odd number is between a file and its commit
        job = start(appender.uri, names)
        go(job)
        for _ in range(steps):
            written += job.stdout.readline().startswith("written")
        job.kill()
        job.wait()
        job.stdin.close()
        job.stdout.close()
        assert all(count == 1 for count in rows_by_recording(appender.uri).values())
    assert written >= 5
    finish(start(appender.uri, names))
    assert rows_by_recording(appender.uri) == Counter(names)
    newest = Dataset.open(appender.uri)
    assert files(appender.uri) == {shard.path for shard in newest.shards()}
    assert list(Path(appender.uri).joinpath("_runs").iterdir()) == []
    assert verify(newest) == []


def test_a_stopped_job_is_not_dead(appender) -> None:
    job = start(appender.uri, ["a", "b"])
    go(job)
    path = job.stdout.readline().split()[1]
    os.kill(job.pid, signal.SIGSTOP)
    try:
        os.utime(f"{appender.uri}/{path}", (0, 0))
        assert delete_abandoned(Dataset.open(appender.uri)) == []
    finally:
        os.kill(job.pid, signal.SIGCONT)
    finish(job)
    assert rows_by_recording(appender.uri) == Counter(["a", "b"])


@pytest.mark.parametrize(("age_s", "gone"), [(ABANDONED_AFTER_S - 60, False), (ABANDONED_AFTER_S + 60, True)])
def test_files_of_unknown_runs_wait_a_day(age_s, gone, appender, rows, codec) -> None:
    (shard,) = write_shard(rows(["a"]), appender.uri, "elsewhere", codec)
    (Path(appender.uri) / "_runs").mkdir()
    marker = Path(appender.uri) / "_runs" / "elsewhere.json"
    marker.write_text('{"host": "another machine", "pid": 1}')
    file = Path(appender.uri) / shard.path
    then = file.stat().st_mtime - age_s
    for path in (file, marker):
        os.utime(path, (then, then))
    assert delete_abandoned(appender.dataset, dry_run=True) == ([shard.path] if gone else [])
    assert file.exists()
    delete_abandoned(appender.dataset)
    assert (not file.exists(), not marker.exists()) == (gone, gone)


def test_only_our_uncommitted_files_are_deleted(appender, append, rows, codec) -> None:
    (old,) = append(["a"])
    append(["a"], replace=True)  # a file of an old version is no abandoned file
    with marked_run(appender.dataset) as run_id:
        (left,) = write_shard(rows(["b"]), appender.uri, run_id, codec)
        (Path(appender.uri) / "split=train" / "mine.parquet").write_text("not ours")
        half = Path(appender.uri) / "split=train" / f".part-{run_id}-{'0' * 32}.parquet.{'1' * 32}.tmp"
        half.write_text("half a file")
        assert run_id_of(half.relative_to(appender.uri).as_posix()) == run_id
    for path in Path(appender.uri).rglob("*.parquet"):
        os.utime(path, (0, 0))
    delete_abandoned(appender.dataset)
    assert not half.exists()
    assert not (Path(appender.uri) / left.path).exists()
    assert files(appender.uri) == {old.path, appender.dataset.shards()[0].path, "split=train/mine.parquet"}
    assert Dataset.open(appender.uri, 1).shards() == [old]


def test_a_failed_run_keeps_its_marker(appender) -> None:
    with pytest.raises(ZeroDivisionError), marked_run(appender.dataset):
        raise ZeroDivisionError
    assert len(list((Path(appender.uri) / "_runs").iterdir())) == 1


def test_a_log_that_cannot_be_written_is_one_line(appender, append) -> None:
    append(["a"])
    code = (
        "import resource, signal, sys; from catalog.datasets import Dataset; from catalog.command import JobError\n"
        "from catalog.head import Head\n"
        "head = Head(Dataset.open(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: head.commit([], [], head.dataset.shards(), 'any')\n"
        "except JobError as error: print(error)"
    )
    words = [sys.executable, "-B", "-c", code, appender.uri]  # -B: bytecode would be cut, too
    output = subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert output.startswith(f"{appender.uri}: cannot commit 1 files: ")
    assert Dataset.open(appender.uri).version == 1
    append(["b"])
    assert rows_by_recording(appender.uri) == Counter(["a", "a", "b", "b"])
