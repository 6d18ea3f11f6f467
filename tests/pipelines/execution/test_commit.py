"""The commit loop: every batch once, the first at once, finished work kept whatever happens next."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.schema import Shard
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from pipelines.execution import commit as job
from pipelines.execution import ray_stream as streaming
from pipelines.execution.cluster import Claim, check_claims
from pipelines.execution.progress import Progress
from pipelines.stages.write import Written

CODEC = identity_of(load_codec("pcm-16khz"))
Result = tuple[int, str, pa.Table]


@pytest.fixture
def appender(tmp_path: Path) -> Appender:
    return Appender(create(tmp_path / "data", CODEC, {}))


@pytest.fixture
def result(appender: Appender) -> Callable[[int], Result]:
    def make(index: int) -> Result:
        rows = pa.table(
            {
                "id": [f"{index}"],
                "recording_id": [f"{index}"],
                "split": ["rejected"],
                "reason": ["silent"],
            }
        )
        shards = write_shard(rows, appender.uri, "run1", CODEC)
        examples = [f"{index}: silent: peak"]
        return index, f"key {index}", Written(shards, 1, 0.0, {"silent": 1}, examples).to_table()

    return make


def committed(appender: Appender) -> list[str]:
    return sorted(Appender.open(appender.uri).committed()["recording_id"].to_pylist())


def test_what_ray_makes_twice_is_committed_once(appender: Appender, result: Callable[[int], Result]) -> None:
    progress = Progress()
    job.commit(appender, iter([result(0), result(1), result(1), result(2), result(0)]), progress)
    assert committed(appender) == ["0", "1", "2"]
    assert (progress.recordings, progress.rejected) == (3, {"silent": 3})


def test_the_first_file_is_committed_before_the_second_is_awaited(
    appender: Appender, result: Callable[[int], Result]
) -> None:
    seen: list[list[str]] = []

    class Watch(Progress):
        def tick(self) -> None:
            seen.append(committed(appender))

    job.commit(appender, iter([result(0), result(1)]), Watch())
    assert seen[0] == ["0"]
    assert committed(appender) == ["0", "1"]


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_finished_work_is_committed_when_the_rest_fails(
    appender: Appender, result: Callable[[int], Result], error: BaseException
) -> None:
    def failing() -> Iterator[Result]:
        yield result(0)
        yield result(1)
        raise error

    with pytest.raises(type(error)):
        job.commit(appender, failing(), Progress())
    assert committed(appender) == ["0", "1"]


@pytest.mark.parametrize(
    ("retry", "replace", "kept"), [((), False, 2), (("silent",), False, 1), ((), True, 1)]
)
def test_rows_are_replaced_if_asked(
    appender: Appender, result: Callable[[int], Result], retry: tuple[str, ...], replace: bool, kept: int
) -> None:
    job.commit(appender, iter([result(0)]), Progress())
    again = Appender.open(appender.uri)
    again.committed(retry)
    job.commit(again, iter([result(0)]), Progress(), retry, replace)
    assert len(again.dataset.read(["recording_id"])) == kept


def test_rows_are_kept_unless_asked(appender: Appender, result: Callable[[int], Result]) -> None:
    job.commit(appender, iter([result(0)]), Progress())
    job.commit(appender, iter([result(0)]), Progress())
    assert len(appender.dataset.read(["recording_id"])) == 2


class Clockwork:
    """Takes the place of `time`; a commit takes `cost_s`."""

    def __init__(self) -> None:
        self.now_s, self.cost_s = 1000.0, 0.0
        self.sizes: list[int] = []

    def monotonic(self) -> float:
        return self.now_s

    def append(self, shards: Sequence[Shard]) -> int:
        self.sizes.append(len(shards))
        self.now_s += self.cost_s
        return 0


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    made = Clockwork()
    monkeypatch.setattr(job, "time", made)
    return made


def test_files_are_committed_after_five_seconds_or_a_hundred(
    clockwork: Clockwork, result: Callable[[int], Result]
) -> None:
    committer = job._Committer(clockwork.append, Progress(), job._Watch(job.Tolerance()))
    _, _, table = result(0)

    def add(first: int, count: int) -> list[int]:
        for index in range(first, first + count):
            committer.add(index, "key", table)
        return clockwork.sizes

    assert add(0, 1) == [1], "the first at once"
    assert add(1, 99) == [1]
    assert add(100, 1) == [1, 100]
    assert add(101, 2) == [1, 100]
    clockwork.now_s += 4.9
    committer.tick()
    assert clockwork.sizes == [1, 100]
    clockwork.now_s += 0.1
    committer.tick()
    assert clockwork.sizes == [1, 100, 2]


def test_a_slow_commit_is_followed_by_a_long_pause(
    clockwork: Clockwork, result: Callable[[int], Result]
) -> None:
    committer = job._Committer(clockwork.append, Progress(), job._Watch(job.Tolerance()))
    _, _, table = result(0)
    clockwork.cost_s = 2.0
    committer.add(0, "key", table)
    committer.add(1, "key", table)
    clockwork.now_s += 199.0
    committer.tick()
    assert clockwork.sizes == [1]
    clockwork.now_s += 1.0
    committer.tick()
    assert clockwork.sizes == [1, 1]


class Listening(Progress):
    """Notices the ticks of the clock's thread, and may fail in one."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.failure, self.ticked = failure, threading.Event()
        self.clock = threading.current_thread()

    def tick(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            self.clock = threading.current_thread()
            self.ticked.set()
            if self.failure is not None:
                raise self.failure


@pytest.mark.parametrize("failure", [None, JobError("the disk is full")])
def test_the_clock_ticks_while_a_result_is_awaited(
    appender: Appender, result: Callable[[int], Result], failure: Exception | None
) -> None:
    """Its failure ends the job, which has committed what it had."""
    progress = Listening(failure)

    def slowly() -> Iterator[Result]:
        yield result(0)
        assert progress.ticked.wait(60)
        progress.ticked.clear()
        if failure is None:
            assert progress.ticked.wait(60), "and goes on"
        else:
            progress.clock.join(60)
        yield result(1)
        yield result(2)

    if failure is None:
        job.commit(appender, slowly(), progress)
        assert committed(appender) == ["0", "1", "2"]
    else:
        with pytest.raises(JobError, match="the disk is full"):
            job.commit(appender, slowly(), progress)
        assert committed(appender) == ["0", "1"]


def test_a_batch_that_comes_back_different_stops_the_job(
    appender: Appender, result: Callable[[int], Result]
) -> None:
    index, _, table = result(1)
    with pytest.raises(JobError, match="the source changed while it was being read"):
        job.commit(appender, iter([(index, "key", table), (index, "other", table)]), Progress())


@given(st.lists(st.text(), max_size=5), st.integers(0, 2**40))
def test_packed_batches_come_back_as_they_were(words: list[str], index: int) -> None:
    table = pa.table({"word": pa.array(words, pa.string())})
    row = streaming._pack(index, "key", table)
    assert row.num_rows == 1
    assert streaming._unpack(row["rows"][0].as_buffer()) == table


def node(cpu: float, gpu: float = 0.0) -> dict[str, float]:
    return {"CPU": cpu, "GPU": gpu}


@pytest.mark.parametrize(
    ("claims", "nodes"),
    [
        ([Claim("prepare", 4, 1.0)], [node(2), node(2)]),
        ([Claim("decode", 2, 0.75), Claim("codec", 2, 0.25, 1.0)], [node(1, 1), node(1, 1)]),
    ],
)
def test_claims_that_fill_the_nodes_are_accepted_and_one_worker_more_is_not(
    claims: list[Claim], nodes: list[dict[str, float]]
) -> None:
    check_claims(claims, nodes)
    with pytest.raises(JobError, match="the cluster holds"):
        check_claims([*claims, Claim("another", 1, 0.25)], nodes)


@pytest.mark.parametrize(
    ("claims", "nodes", "message"),
    [
        (
            [Claim("prepare", 3, 1.0)],
            [node(2)],
            "the cluster holds 2 of 3 prepare workers of 1 CPU and 0 GPU",
        ),
        ([Claim("prepare", 1, 2.0)], [node(1), node(1)], "holds 0 of 1 prepare workers of 2 CPU"),
        (
            [Claim("codec", 2, 0.5, 1.0)],
            [node(4, 1)],
            "(its nodes: 4 CPU and 1 GPU); ask for fewer with --workers",
        ),
    ],
)
def test_claims_that_would_wait_for_ever_are_refused(
    claims: list[Claim], nodes: list[dict[str, float]], message: str
) -> None:
    with pytest.raises(JobError, match=re.escape(message)):
        check_claims(claims, nodes)


def test_progress_names_some_rejections_of_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    for index in range(20):
        progress.add(Written([], 1, 2.0, {"silent": 1}, [f"{index}.wav: silent: peak is 0"]))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"rejected {index}.wav: silent: peak is 0" for index in range(5)]
    assert (progress.recordings, progress.seconds, progress.rejected) == (20, 40.0, {"silent": 20})


def batch(troubles: str, last: str = "r: cannot be read: gone") -> Written:
    return Written([], len(troubles), 0.0, troubles=troubles, last_trouble=last)


def test_single_troubles_are_borne_and_many_in_a_row_end_the_job() -> None:
    watch = job._Watch(job.Tolerance(in_a_row=3, share=0.5))
    for troubles in ("..u", "u.c", "..", "cu", "."):
        watch.add(batch(troubles))
    watch.check_share()
    assert (watch.unavailable, watch.seen) == (3, 11)
    watch.add(batch("uu"))
    with pytest.raises(
        JobError, match=r"3 recordings in a row could not be read, the last: r: cannot be read: gone"
    ):
        watch.add(batch("u..."))


def test_the_first_recordings_count_like_all_others() -> None:
    watch = job._Watch(job.Tolerance(in_a_row=2))
    watch.add(batch("u."))
    with pytest.raises(JobError, match="2 recordings in a row"):
        watch.add(batch("uu"))


def test_too_large_a_share_fails_at_the_end() -> None:
    watch = job._Watch(job.Tolerance())
    for _ in range(99):
        watch.add(batch("."))
    watch.add(batch("u"))
    watch.check_share()
    watch.add(batch("u"))
    with pytest.raises(JobError, match=r"2 of 101 recordings were unavailable, .* takes them up again"):
        watch.check_share()
