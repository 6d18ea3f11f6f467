"""Common parts of the scenarios of `chaos_prepare.py`: a corpus, its undisturbed result, and outcomes."""

from __future__ import annotations

import argparse
import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import chaos_jobs
from chaos_jobs import Ended, Job, Rows, rows_of

WORDS = "the sun sets over a quiet harbour while seven small boats return with silver fish".split()  # noqa: SIM905
SMALL_BATCHES = ("--set", "resources.max_batch_bytes=1")


@dataclass(frozen=True)
class Outcome:
    """Expected and actual result of a scenario."""

    expected: str
    found: str
    ok: bool
    measured: dict[str, Any] = field(default_factory=dict)


@dataclass
class Bench:
    """Shared by the scenarios: a folder to work in, a corpus and its undisturbed result."""

    scratch: Path
    arguments: argparse.Namespace
    open: ExitStack

    def __post_init__(self) -> None:
        self.draw = random.Random(self.arguments.seed)
        self._corpora: dict[int, Path] = {}
        self._references: dict[tuple[Path, str], tuple[Rows, float]] = {}

    @cached_property
    def address(self) -> str:
        """Of a Ray that stays up, for jobs whose Ray is not attacked."""
        address: str = self.open.enter_context(chaos_jobs.cluster(self.scratch, 4)).address
        return address

    @property
    def codec(self) -> tuple[str, str]:
        return ("--set", f"codec.name={self.arguments.codec}")

    def corpus(self, count: int) -> Path:
        """`count` sentences of 2 to 5 s in several voices with transcripts, and an empty file."""
        if count not in self._corpora:
            folder = self.scratch / f"corpus{count}"
            make_corpus(folder, count)
            self._corpora[count] = folder
        return self._corpora[count]

    def reference(self, corpus: Path, codec: str = "") -> tuple[Rows, float]:
        """The rows of an undisturbed run, and its seconds."""
        key = (corpus, codec or self.arguments.codec)
        if key not in self._references:
            output = self.output()
            words = [str(corpus), str(output), "--workers", "2", "--set", f"codec.name={key[1]}"]
            ended = self.job(*words).finish()
            if ended.code:
                raise RuntimeError(f"the undisturbed run failed: {ended.said}")
            self._references[key] = (rows_of(output)[0], ended.wall_s)
        return self._references[key]

    def output(self) -> Path:
        """A new place for a dataset."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / "data"

    def job(self, *words: str, own_ray: bool = False, **environment: str) -> Job:
        """Start `prepare`."""
        address = "" if own_ray else self.address
        return Job(self.scratch, ("prepare", *words), address=address, environment=environment)


def make_corpus(folder: Path, count: int) -> None:
    from pipelines.demo.corpus import Voice, speak

    folder.mkdir()
    draw = random.Random(0)
    voices = [Voice(name, speed) for name in ("en-us", "en-us+f2", "en-gb-scotland") for speed in (130, 160)]
    (folder / "empty.wav").write_bytes(b"")
    for index in range(count - 1):
        text = " ".join(draw.choices(WORDS, k=draw.randint(4, 11)))
        speak(text, draw.choice(voices), folder / f"{index:05d}.wav")
        (folder / f"{index:05d}.txt").write_text(text)


def said(ended: Ended) -> str:
    """The last line of a job that failed, for the table."""
    return (ended.said.splitlines() or ["nothing"])[-1][:160]


def plain_rows(output: Path) -> dict[str, dict[str, Any]]:
    """Rows by id, without codes."""
    import pyarrow.parquet as pq

    from catalog.datasets import Dataset

    columns = ["id", "reason", "detail", "source_digest", "recording_id"]
    tables = [pq.ParquetFile(uri).read(columns) for uri in Dataset.open(output).file_uris()]
    return {row["id"]: row for table in tables for row in table.to_pylist()}
