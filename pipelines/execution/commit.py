"""The commit loop that every job shares: files appear, and become part of the dataset exactly once.

What a stage wrote stays invisible until the driver has committed it. A batch that Ray makes twice is committed once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from catalog.appending import Appender
from catalog.command import JobError
from catalog.schema import Shard
from pipelines.execution.progress import Progress
from pipelines.stages.write import Written

COMMIT_S = 5.0
COMMIT_FILES = 100
COMMIT_SHARE = 0.01


def commit(
    appender: Appender,
    results: Iterable[tuple[int, str, pa.Table]],
    progress: Progress,
    retry: Sequence[str] = (),
    replace: bool = False,
    tolerance: Tolerance | None = None,
) -> int:
    """Commit what appears: the first file at once, then what has gathered for `COMMIT_S` or `COMMIT_FILES`.

    Commits to a table of very many files take longer; then they wait longer, to cost no more than `COMMIT_SHARE`.

    `retry` and `replace` are those of `Appender.append`. What is finished is committed even when the job then fails or
    is interrupted. Returns how many recordings were unavailable; JobError for more than `tolerance` allows.
    """
    watch = _Watch(tolerance or Tolerance())
    committer = _Committer(partial(appender.append, retry=retry, replace=replace), progress, watch)
    clock = _Clock(committer)
    try:
        with clock:
            for index, key, table in results:
                committer.add(index, key, table)
                clock.raise_failure()
    finally:
        committer.commit()
    watch.check_share()
    return watch.unavailable


@dataclass(frozen=True)
class Tolerance:
    """Limits of trouble with the storage or the decoder, beyond which a job fails."""

    in_a_row: int = 5
    """Recordings that were unavailable, or whose decoder crashed, one after the other."""
    share: float = 0.01
    """Of all recordings, unavailable ones; looked at when the job ends."""


class _Watch:
    """Counts trouble and ends the job when it is more than single recordings have."""

    def __init__(self, tolerance: Tolerance) -> None:
        self._tolerance = tolerance
        self._row, self._last = 0, ""
        self.seen = self.unavailable = 0

    def add(self, written: Written) -> None:
        """Take the result of one batch."""
        self._last = written.last_trouble or self._last
        self.seen += len(written.troubles)
        self.unavailable += written.troubles.count("u")
        for kind in written.troubles:
            self._row = 0 if kind == "." else self._row + 1
            if self._row >= self._tolerance.in_a_row:
                raise JobError(
                    f"{self._row} recordings in a row could not be read, the last: {self._last}. "
                    "Unavailable ones are not stored: run the same command again when the source is back "
                    "(decoders that crashed: --retry-rejected decoder_crashed)"
                )

    def check_share(self) -> None:
        """At the end of the job."""
        if self.unavailable > self._tolerance.share * self.seen:
            raise JobError(
                f"{self.unavailable} of {self.seen} recordings were unavailable, the last: {self._last}. "
                "The others are committed; these are not stored, and the same command takes them up again"
            )


class _Committer:
    """Gathers files and commits them. Safe to use from the consumer's thread and the clock's."""

    def __init__(self, append: Callable[[Sequence[Shard]], int], progress: Progress, watch: _Watch) -> None:
        self._append, self._progress, self._watch = append, progress, watch
        self._lock = threading.RLock()
        self._pending: list[Shard] = []
        self._seen: dict[int, str] = {}
        self._last: float | None = None
        self._pause_s = COMMIT_S

    def add(self, index: int, key: str, table: pa.Table) -> None:
        """Take one result; a batch that Ray made a second time, as after the loss of a node, is left out."""
        with self._lock:
            if self._seen.get(index, key) != key:
                raise JobError("the source changed while it was being read; run the same command again")
            if index in self._seen:
                return
            self._seen[index] = key
            written = Written.from_table(table)
            self._pending += written.shards
            self._progress.add(written)
            self.tick()
            self._watch.add(written)

    def tick(self) -> None:
        """Commit what is due and show how far the job is."""
        with self._lock:
            now = time.monotonic()
            if self._last is None or len(self._pending) >= COMMIT_FILES or now - self._last >= self._pause_s:
                self.commit()
            self._progress.tick()

    def commit(self) -> None:
        """Commit all that is pending."""
        with self._lock:
            if self._pending:
                started = time.monotonic()
                self._append(self._pending)
                self._pending = []
                self._last = time.monotonic()
                self._pause_s = max(COMMIT_S, (self._last - started) / COMMIT_SHARE)


class _Clock:
    """Ticks while the consumer waits for a result, which may take longer than a commit may wait."""

    def __init__(self, committer: _Committer, period_s: float = 0.5) -> None:
        self._committer, self._period_s = committer, period_s
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def raise_failure(self) -> None:
        """Raise what went wrong in a tick."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            try:
                self._committer.tick()
            except Exception as failure:  # noqa: BLE001 - raised again in the consumer
                self._failure = failure
                return
