"""The shape every job shares: batches of recordings -> stages on Ray Data -> files -> commits, exactly once.

A row of the Ray Data job is a batch of whole recordings, packed as Arrow bytes: no split, merge or retry of Ray's can
tear a recording apart. What a stage returns stays invisible until the driver has committed its files; a batch that Ray
makes twice is committed once.
"""

from __future__ import annotations

import json
import queue
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from catalog.command import JobError, UsageError
from catalog.datasets import Dataset
from catalog.schema import Shard
from pipelines.cluster import Claim
from pipelines.listing import Batch
from pipelines.progress import Progress
from pipelines.stages.write import Written

COMMIT_S = 5.0
COMMIT_FILES = 100
_RETRIES = 3
"""How often Ray repeats a batch whose worker died. What only raises is not repeated."""
_ROW = pa.schema(
    [("index", pa.int64()), ("key", pa.string()), ("rows", pa.large_binary()), ("error", pa.string())]
)


@dataclass(frozen=True)
class Stage:
    """A worker class and its arguments: built once a worker, then called with one table after the other."""

    factory: Callable[..., Callable[[pa.Table], pa.Table]]
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """Stages that run one after the other in the same workers."""

    claim: Claim
    stages: Sequence[Stage]


class Worker:
    """The Ray actor of a step: unpacks a batch, runs the stages, packs the result."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = [stage.factory(**stage.arguments) for stage in stages]

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows of batches in, as many rows out; a batch that fails becomes a row that says so."""
        return pa.concat_tables([self._one(row) for row in rows.to_batches(max_chunksize=1) if row.num_rows])

    def _one(self, row: pa.RecordBatch) -> pa.Table:
        index, key, packed, error = _values(row)
        if error is not None:
            return pa.Table.from_batches([row])
        try:
            table = _unpack(packed)
            for stage in self._stages:
                table = stage(table)
            return _pack(index, key, table)
        except Exception as failure:  # noqa: BLE001 - recorded, and raised again in the driver
            return _failed(failure)


def stream(
    batches: Callable[[], Iterator[Batch]], steps: Sequence[Step]
) -> Iterator[tuple[int, str, pa.Table]]:
    """Run every batch through the steps; yields (index, key, result) in the order in which they finish.

    `batches` is called, and iterated lazily, in a Ray task of its own.
    """
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    context = DataContext.get_current().copy()
    # Blocks are cut above this size, so every row, which is a batch already, is a block and a task of its own.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = 0
    with DataContext.current(context), warnings.catch_warnings():
        # Listing takes no CPU slot: workers may then claim all of them without starving it.
        data = ray.data.read_datasource(_datasource(batches), override_num_blocks=1, num_cpus=0)
        # The only way to bound retries is through arguments that Ray 2.60 calls deprecated.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", module=__name__)
        for step in steps:
            data = data.map_batches(
                Worker,
                fn_constructor_args=(step.stages,),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=step.claim.workers),
                num_cpus=step.claim.num_cpus,
                num_gpus=step.claim.num_gpus,
                max_restarts=-1,
                max_task_retries=_RETRIES,
            )
        try:
            for rows in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in rows.to_batches(max_chunksize=1):
                    index, key, packed, error = _values(row)
                    if error is not None:
                        raise _raised(error)
                    yield index, key, _unpack(packed)
        except ray.exceptions.RayActorError as error:
            raise JobError(
                f"a worker died {_RETRIES + 1} times on the same batch, often for want of memory; "
                "lower resources.max_batch_bytes or --workers, then run the same command again"
            ) from error


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


def _datasource(batches: Callable[[], Iterator[Batch]]) -> Any:
    """One lazy read task. The class is made here because its base needs Ray."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class Batches(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, _parallelism: int, *_: Any, **__: Any) -> list[Any]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(lambda: _packed(batches), unknown)]

    return Batches()


def _packed(batches: Callable[[], Iterator[Batch]]) -> Iterator[pa.Table]:
    try:
        for batch in batches():
            yield _pack(batch.index, batch.key, batch.rows)
    except Exception as failure:  # noqa: BLE001 - recorded, and raised again in the driver
        yield _failed(failure)


def _failed(failure: Exception) -> pa.Table:
    """A failure as a row: Ray would wrap the message in its own and lose the class."""
    known = isinstance(failure, UsageError | JobError | ValueError | OSError)
    plain = {
        "usage": isinstance(failure, UsageError),
        "message": str(failure) if known else f"{type(failure).__name__}: {failure}",
        "trace": traceback.format_exc(),
    }
    columns = [
        pa.array([value], field.type)
        for value, field in zip((-1, "", b"", json.dumps(plain)), _ROW, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=_ROW)


def _raised(error: str) -> Exception:
    plain = json.loads(error)
    raised = UsageError(plain["message"]) if plain["usage"] else JobError(plain["message"])
    raised.add_note(plain["trace"])
    return raised


def _values(row: pa.RecordBatch) -> tuple[int, str, pa.Buffer, str | None]:
    index, key, packed, error = (row[name][0] for name in _ROW.names)
    return index.as_py(), key.as_py(), packed.as_buffer(), error.as_py()


def _pack(index: int, key: str, table: pa.Table) -> pa.Table:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    offsets = pa.py_buffer(np.array([0, data.size], dtype=np.int64))
    packed = pa.LargeBinaryArray.from_buffers(pa.large_binary(), 1, [None, offsets, data])
    error = pa.nulls(1, pa.string())
    return pa.Table.from_arrays([pa.array([index]), pa.array([key]), packed, error], schema=_ROW)


def _unpack(buffer: pa.Buffer) -> pa.Table:
    with pa.ipc.open_stream(buffer) as reader:
        return reader.read_all()
