"""Batches of recordings through stages on Ray Data, each whole and at least once.

A row of the Ray Data job is a batch of whole recordings, packed as Arrow bytes: no split, merge or retry of Ray's can
tear a recording apart. A failure travels as a row, too, so that its class and words survive.
"""

from __future__ import annotations

import ctypes
import json
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from catalog.command import JobError, UsageError
from pipelines.execution.cluster import Claim

if TYPE_CHECKING:
    import ray

_RETRIES = 3
"""Repetitions of a batch whose worker died. One that only raises is not repeated."""
_ROW = pa.schema(
    [("index", pa.int64()), ("key", pa.string()), ("rows", pa.large_binary()), ("error", pa.string())]
)


@dataclass(frozen=True)
class RecordingBatch:
    """Whole recordings that travel together."""

    index: int
    key: str
    """Digest of the ids: a batch that is made again must be the same."""
    rows: pa.Table


@dataclass(frozen=True)
class Stage:
    """A worker class and its arguments: built once per worker, then called with one table after the other."""

    factory: Callable[..., Callable[[pa.Table], pa.Table]]
    arguments: Mapping[str, object]


@dataclass(frozen=True)
class Step:
    """Stages that run one after the other in the same workers."""

    claim: Claim
    stages: Sequence[Stage]


class Attempts:
    """Counts the attempts at each batch in each step, in an actor on the driver's node, which outlives workers."""

    def __init__(self) -> None:
        self._begun: Counter[tuple[int, int]] = Counter()

    def begin(self, step: int, index: int) -> int:
        """Count one more; returns how many that makes."""
        self._begun[step, index] += 1
        return self._begun[step, index]


class Worker:
    """The Ray actor of a step: unpacks a batch, runs the stages, packs the result."""

    def __init__(self, stages: Sequence[Stage], step: int, attempts: ray.actor.ActorHandle) -> None:
        end_without_destructors()
        self._stages = [stage.factory(**stage.arguments) for stage in stages]
        self._step, self._attempts = step, attempts

    def __call__(self, rows: pa.Table) -> pa.Table:
        """Rows of batches in, as many rows out; a batch that fails becomes a row that says so."""
        return pa.concat_tables([self._one(row) for row in rows.to_batches(max_chunksize=1) if row.num_rows])

    def _one(self, row: pa.RecordBatch) -> pa.Table:
        index, key, packed, error = _values(row)
        if error is not None:
            return pa.Table.from_batches([row])
        try:
            self._begin(index)
            table = _unpack(packed)
            for stage in self._stages:
                table = stage(table)
            return _pack(index, key, table)
        except Exception as failure:  # noqa: BLE001 - recorded, and raised again in the driver
            return _failed(failure)

    def _begin(self, index: int) -> None:
        import ray

        if ray.get(self._attempts.begin.remote(self._step, index)) > _RETRIES + 1:
            raise JobError(
                f"a worker died {_RETRIES + 1} times on the same batch, often for want of memory; "
                "lower resources.max_batch_bytes or --workers, then run the same command again"
            )


def end_without_destructors() -> None:
    """End this process, when it ends, right after Python's own exit handlers and with the same status.

    Ray 2.60's destructors can lock one mutex twice: 4 workers of 20 stayed behind when their Ray ended, with
    all their memory. Exit handlers are called in reverse, so this one comes before those that run destructors. Only
    glibc has handlers that receive the status; elsewhere nothing changes.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "on_exit"):
        library.on_exit(ctypes.cast(library._exit, ctypes.c_void_p), None)


def stream(
    batches: Callable[[], Iterator[RecordingBatch]], steps: Sequence[Step]
) -> Generator[tuple[int, str, pa.Table], None, None]:
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
        # Ray repeats what a dead worker had for ever, and `Attempts` counts: a bound of Ray's own is used up within a
        # second where a node is lost. These arguments, which Ray 2.60 calls deprecated, let a worker come back.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", module=__name__)
        # A small source has fewer batches than workers, which is nothing that anybody could configure.
        warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
        attempts = _beside_the_driver(Attempts)
        for number, step in enumerate(steps):
            data = data.map_batches(
                Worker,
                fn_constructor_args=(step.stages, number, attempts),
                batch_size=1,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=step.claim.workers),
                num_cpus=step.claim.num_cpus,
                num_gpus=step.claim.num_gpus,
                max_restarts=-1,
                max_task_retries=-1,
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
                "workers are gone or could not start: the cluster went away, or other jobs hold its CPUs and GPUs; "
                "run the same command again when there is room"
            ) from error
        finally:
            # What Ray Data keeps of a finished job would keep it alive as long as this process.
            if ray.is_initialized():
                ray.kill(attempts)


def _beside_the_driver(actor: type) -> ray.actor.ActorHandle:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(actor).remote()


def _datasource(batches: Callable[[], Iterator[RecordingBatch]]) -> ray.data.Datasource:
    """One lazy read task. The class is made here because its base needs Ray."""
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata

    class RecordingBatches(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, _parallelism: int, *_: object, **__: object) -> list[ReadTask]:
            unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
            return [ReadTask(lambda: _packed(batches), unknown)]

    return RecordingBatches()


def _packed(batches: Callable[[], Iterator[RecordingBatch]]) -> Iterator[pa.Table]:
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
