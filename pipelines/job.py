"""The commit loop that every job shares: files appear, and become part of the dataset exactly once.

What a stage wrote stays invisible until the driver has committed it. A batch that Ray makes twice is committed once.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from catalog.command import JobError
from catalog.datasets import Dataset
from catalog.schema import Shard
from pipelines.progress import Progress
from pipelines.stages.write import Written

COMMIT_S = 5.0
COMMIT_FILES = 100


def commit(
    dataset: Dataset,
    results: Iterable[tuple[int, str, pa.Table]],
    progress: Progress,
    retry: Sequence[str] = (),
) -> None:
    """Commit what appears: the first file at once, then what has gathered for `COMMIT_S` or `COMMIT_FILES`.

    What is finished is committed even when the job then fails or is interrupted.
    """
    committer = _Committer(dataset, retry)
    with _Feed(results) as feed:
        try:
            for item in feed:
                if item is not None:
                    index, key, table = item
                    if committer.is_new(index, key):
                        written = Written.from_table(table)
                        progress.add(written)
                        committer.add(written.shards)
                committer.commit_if_due()
                progress.tick()
        finally:
            committer.commit()


@dataclass
class _Committer:
    dataset: Dataset
    retry: Sequence[str]
    _pending: list[Shard] = field(default_factory=list)
    _seen: dict[int, str] = field(default_factory=dict)
    _last: float | None = None

    def is_new(self, index: int, key: str) -> bool:
        """False for a batch that Ray made a second time, which is normal after the loss of a node."""
        if index not in self._seen:
            self._seen[index] = key
            return True
        if self._seen[index] != key:
            raise JobError("the source changed while it was being read; run the same command again")
        return False

    def add(self, shards: Iterable[Shard]) -> None:
        self._pending.extend(shards)

    def commit_if_due(self) -> None:
        first = self._last is None
        if first or len(self._pending) >= COMMIT_FILES or time.monotonic() - (self._last or 0.0) >= COMMIT_S:
            self.commit()

    def commit(self) -> None:
        if self._pending:
            self.dataset.append(self._pending, retry=self.retry)
            self._pending = []
            self._last = time.monotonic()


class _Feed:
    """Results from a thread, so that the consumer also wakes up when nothing comes: None then."""

    def __init__(self, results: Iterable[tuple[int, str, pa.Table]], wait_s: float = 0.5) -> None:
        self._results, self._wait_s = results, wait_s
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=COMMIT_FILES)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._pump, daemon=True)

    def __enter__(self) -> Iterator[tuple[int, str, pa.Table] | None]:
        self._thread.start()
        return self._items()

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def _items(self) -> Iterator[tuple[int, str, pa.Table] | None]:
        while True:
            try:
                item = self._queue.get(timeout=self._wait_s)
            except queue.Empty:
                yield None
                continue
            if item is self:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _pump(self) -> None:
        try:
            for item in self._results:
                self._put(item)
                if self._stop.is_set():
                    return
            self._put(self)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            self._put(error)

    def _put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=1.0)
                return
            except queue.Full:
                continue
