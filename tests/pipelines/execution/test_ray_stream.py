"""Failures as rows, attempts at batches, and the end of worker processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.command import JobError, UsageError
from pipelines.execution import ray_stream
from pipelines.execution.ray_stream import RecordingBatch

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
