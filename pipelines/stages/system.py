"""Stages that ask a system: a loaded task, requests that are refused by a reason, WAV files of its speech."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import pyarrow as pa
import torch

from catalog.command import UsageError
from pipelines.audio.containers import AudioError
from pipelines.audio.decode import Audio
from pipelines.audio.lengths import samples_to_seconds
from pipelines.audio.wav import write_wav
from pipelines.rows import Row

if TYPE_CHECKING:
    from models.codecs.interface import Wave
    from models.system import Speech, System, Task

RESULTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("evaluations", pa.int64()),
        pa.field("reason", pa.string()),
        # Of a row that was made several times: which one was kept, out of how many, and its score in JSON.
        pa.field("candidate", pa.int64()),
        pa.field("candidates", pa.int64()),
        pa.field("score", pa.string()),
    ]
)

Q = TypeVar("Q")


def row_seed(seed: int, identifier: str) -> int:
    """A row's own seed: what is drawn for it does not depend on the batch or the worker it falls into."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identifier}".encode()).digest()[:7], "little")


def device_of(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """The device that a job's setting means. UsageError for `cuda` where there is none."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device = 'cuda': this machine has no CUDA device; use cpu or auto")
    return "cuda" if available and wanted != "cpu" else "cpu"


class SystemStage(ABC, Generic[Q]):
    """Answers tables of requests with RESULTS; a request that cannot be answered gets a reason."""

    def __init__(self, system: System, task: Task[Q, object, Speech], seed: int) -> None:
        self.system, self.task, self.seed = system, task, seed

    @abstractmethod
    def request(self, row: Row) -> Q:
        """A row as the task takes it. AudioError, ValueError or OSError with one line if it cannot be made."""

    def at_once(self, row: Row, request: Q) -> Row | None:  # noqa: ARG002
        """The row of RESULTS for a request answered by itself; None for one that is answered with others."""
        return None

    def __call__(self, requests: pa.Table) -> pa.Table:
        """Requests -> RESULTS, in order; every good row's WAV is written before this returns."""
        rows = requests.to_pylist()
        results: dict[str, Row] = {row["id"]: {"id": row["id"]} for row in rows}
        ready: list[tuple[Row, object]] = []
        for row in rows:
            try:
                request = self.request(row)
                found = self.at_once(row, request)
                if found is None:
                    ready.append((row, self.task.prepare(request)))
                else:
                    results[row["id"]] |= found
            except (AudioError, ValueError, OSError) as error:
                results[row["id"]]["reason"] = _said(error)
        for (row, _), found in zip(ready, self.answers(ready) if ready else [], strict=True):
            results[row["id"]] |= found
        return pa.Table.from_pylist(list(results.values()), schema=RESULTS)

    def answers(self, ready: Sequence[tuple[Row, object]]) -> list[Row]:
        """The rows of RESULTS for prepared requests, in order, their WAVs written."""
        made = self.run(ready, [self.generator(row) for row, _ in ready])
        return [write(Path(row["output"]), one) for (row, _), one in zip(ready, made, strict=True)]

    def generator(self, row: Row) -> torch.Generator:
        """The randomness of a row."""
        return torch.Generator().manual_seed(row_seed(self.seed, row["id"]))

    def run(self, ready: Sequence[tuple[Row, object]], generators: Sequence[torch.Generator]) -> list[Speech]:
        """Answer prepared requests together."""
        return self.task.run([prepared for _, prepared in ready], generators)


def _said(error: Exception) -> str:
    """The error in one line, without the number that Python puts before a name."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return " ".join(str(error).split())


def wave_of(audio: Audio) -> Wave:
    """A decoded recording as a batch of one row."""
    from models.codecs.interface import Wave

    samples_BT = torch.from_numpy(audio.samples)[None]
    return Wave(samples_BT, torch.tensor([samples_BT.shape[1]]), audio.sample_rate)


def written(path: Path, samples: int, sample_rate: int, finish_reason: str, evaluations: int) -> Row:
    """The row of RESULTS for a WAV file that was written."""
    return {
        "output": str(path),
        "duration_s": samples_to_seconds(samples, sample_rate),
        "finish_reason": finish_reason,
        "evaluations": evaluations,
    }


def write(path: Path, speech: Speech) -> Row:
    """Write a speech as a WAV file; returns its row of RESULTS."""
    wave = speech.wave
    samples = wave.wave_BT[0, : int(wave.lengths_B[0])].numpy()
    write_wav(path, samples, wave.sample_rate)
    return written(path, len(samples), wave.sample_rate, speech.finish_reason, speech.evaluations)
