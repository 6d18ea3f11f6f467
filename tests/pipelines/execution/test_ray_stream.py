"""Failures as rows, attempts at batches, and the end of worker processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from catalog.command import JobError, UsageError
from pipelines.execution import ray_stream
from pipelines.execution.ray_stream import RecordingBatch, Stage

REPOSITORY = Path(__file__).resolve().parents[3]

_STUCK_AT_EXIT = """
import atexit, ctypes, sys
library = ctypes.CDLL(None)
library.on_exit(ctypes.cast(library.pause, ctypes.c_void_p), None)
from pipelines.execution.ray_stream import end_without_destructors
end_without_destructors()
atexit.register(print, "Python's own handlers ran")
sys.exit(3)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="handlers with a status are glibc's")
def test_a_process_whose_destructors_hang_ends() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _STUCK_AT_EXIT],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (3, "Python's own handlers ran\n")


def values(table: pa.Table) -> tuple[int, str, pa.Buffer, str | None]:
    (row,) = table.to_batches()
    return ray_stream._values(row)


def test_batches_that_were_listed_before_a_failure_are_kept() -> None:
    rows = pa.table({"uri": ["a", "b"]})

    def batches() -> Iterator[RecordingBatch]:
        yield RecordingBatch(3, "digest", rows)
        raise UsageError("the folder is gone")

    good, bad = map(values, ray_stream._packed(batches))
    assert (good[:2], good[3]) == ((3, "digest"), None)
    assert ray_stream._unpack(good[2]) == rows
    assert bad[3] is not None
    raised = ray_stream._raised(bad[3])
    assert (type(raised), str(raised)) == (UsageError, "the folder is gone")
    assert "in batches" in raised.__notes__[0], "the stack of the worker"


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (JobError("the disk is full"), JobError, "the disk is full"),
        (ValueError("codes are ragged"), JobError, "codes are ragged"),
        (FileNotFoundError(2, "No such file", "a.wav"), JobError, "[Errno 2] No such file: 'a.wav'"),
        (KeyError("id"), JobError, "KeyError: 'id'"),
        (ZeroDivisionError("by zero"), JobError, "ZeroDivisionError: by zero"),
    ],
)
def test_a_failure_of_a_worker_keeps_its_words(failure: Exception, kind: type, said: str) -> None:
    index, key, packed, error = values(ray_stream._failed(failure))
    assert (index, key, packed.size) == (-1, "", 0)
    assert error is not None
    raised = ray_stream._raised(error)
    assert (type(raised), str(raised)) == (kind, said)


def test_attempts_are_counted_by_step_and_batch() -> None:
    attempts = ray_stream.Attempts()
    assert [attempts.begin(0, 7) for _ in range(3)] == [1, 2, 3]
    assert (attempts.begin(1, 7), attempts.begin(0, 8), attempts.begin(0, 7)) == (1, 1, 4)


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ray_stream.Worker]:
    """A worker of these stages that is no actor; its counter of attempts is an object of this process."""
    import ray

    monkeypatch.setattr(ray, "get", lambda counted: counted)
    monkeypatch.setattr(ray_stream, "end_without_destructors", lambda: None)
    counter = SimpleNamespace(begin=SimpleNamespace(remote=ray_stream.Attempts().begin))

    def make(*stages: Callable[[pa.Table], pa.Table], step: int = 0) -> ray_stream.Worker:
        return ray_stream.Worker([Stage(lambda stage=one: stage, {}) for one in stages], step, counter)

    return make


def doubled(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table])


def strict(table: pa.Table) -> pa.Table:
    if "bad" in table["uri"].to_pylist():
        raise ValueError("bad is bad")
    return table


def test_batches_go_through_the_stages_in_order_and_failures_stay_alone(
    worker: Callable[..., ray_stream.Worker],
) -> None:
    earlier = ray_stream._failed(UsageError("earlier"))
    batches = [
        ray_stream._pack(at, f"k{at}", pa.table({"uri": [name]})) for at, name in enumerate(("a", "bad", "c"))
    ]
    made = worker(strict, doubled)(pa.concat_tables([*batches, earlier]))
    rows = [ray_stream._values(row) for row in made.to_batches(max_chunksize=1)]
    assert [(index, key) for index, key, _, _ in rows] == [(0, "k0"), (-1, ""), (2, "k2"), (-1, "")]
    assert [ray_stream._unpack(rows[at][2])["uri"].to_pylist() for at in (0, 2)] == [["a", "a"], ["c", "c"]]
    raised = [str(ray_stream._raised(rows[at][3])) for at in (1, 3)]
    assert raised == ["bad is bad", "earlier"]


def test_a_batch_whose_worker_dies_is_repeated_three_times(worker: Callable[..., ray_stream.Worker]) -> None:
    batch = ray_stream._pack(5, "k", pa.table({"uri": ["a"]}))
    for _ in range(4):
        assert values(worker(doubled)(batch))[3] is None
    error = values(worker(doubled)(batch))[3]
    assert error is not None
    assert str(ray_stream._raised(error)) == (
        "a worker died 4 times on the same batch, often for want of memory; "
        "lower resources.max_batch_bytes or --workers, then run the same command again"
    )
    assert values(worker(doubled, step=1)(batch))[3] is None, "another step counts by itself"
