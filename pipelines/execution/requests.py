"""Jobs that ask a system: files of requests, the worker that answers them here or on Ray, and the job's JSON line.

A rerun leaves out what is answered already (`execution.answers`), so an interrupted job goes on where it stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import pyarrow as pa
from pydantic import Field

from catalog.command import JobError, UsageError
from catalog.config import Settings
from catalog.files import alone
from catalog.outward import say
from pipelines.execution import cluster
from pipelines.execution.answers import Answers
from pipelines.execution.cluster import Claim
from pipelines.execution.ray_stream import RecordingBatch, Stage, Step, stream
from pipelines.rows import Row
from pipelines.stages.system import SystemStage, device_of

Q = TypeVar("Q")

MANIFEST = "manifest.jsonl"
_NAME_BYTES = 255


class RequestSettings(Settings):
    """Settings of such a job; `sampling` goes to the system, which refuses what it does not know."""

    seed: int = Field(0, ge=0, description="the same seed, id and request give the same speech")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(16, ge=1, le=1024, description="requests answered together")
    workers: int = Field(0, ge=0, description="Ray actors; 0 works in this process")
    cpus_per_worker: float = Field(1.0, gt=0)
    sampling: dict[str, object] = Field(default_factory=dict, description="steps, guidance, temperature, ...")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model and --tracking-uri."""
    parser.add_argument(
        "--model", required=True, help="models:/NAME[@ALIAS], models:/NAME/VERSION or a system directory"
    )
    parser.add_argument(
        "--tracking-uri", help="MLflow; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )


@dataclass(frozen=True)
class Requests:
    """Requests of one kind, each with the path of its `output`."""

    rows: Sequence[Row]
    schema: pa.Schema
    paths: tuple[str, ...]
    """Columns that hold paths, besides `output`."""
    unit: str
    """What the JSON line calls them: `sentences`."""
    single: bool
    """One request, which fails the job if it is refused and replaces its output."""
    size: Callable[[Row], int]
    """Orders requests: neighbours of like length waste the least padding."""
    requests: Path | None = None
    """The file that they come from."""
    made_with: Mapping[str, object] = field(default_factory=dict)
    """What answers depend on besides the system, its options and the seed."""
    noted: tuple[str, ...] = ()
    """Fields of RESULTS that a line of the manifest has, too."""
    may_fail: bool = False
    """All of them, without failing the job: whoever asks judges what there is."""

    def answer(
        self, worker: type[SystemStage[Q]], arguments: Row, settings: RequestSettings, output: Path
    ) -> Row:
        """Run what is left to do through workers built of `arguments`; returns the JSON line. JobError for a single
        request that is refused.
        """
        self._refuse_names()
        self._refuse_inputs(output)
        with nullcontext() if self.single else alone(output):
            return self._answer(worker, arguments, settings, output)

    def _answer(
        self, worker: type[SystemStage[Q]], arguments: Row, settings: RequestSettings, output: Path
    ) -> Row:
        started = time.perf_counter()
        options = {"seed": settings.seed, "options": settings.sampling}
        made_with = options | {"system": _description(Path(arguments["model"]))} | dict(self.made_with)
        answers = Answers(output / MANIFEST, self.rows, self.paths, made_with, self.noted)
        todo, changed = (list(self.rows), []) if self.single else answers.outdated()
        if changed:
            say(f"{len(changed)} {self.unit} have changed since they were made; made again")
        results = [_refused(row) for row in todo if row.get("problem")]
        fit = [row for row in todo if not row.get("problem")]
        arguments = {"device": device_of(settings.device), **options, **arguments}
        ready = (lambda: None) if self.single else (lambda: answers.begin(changed))
        for row in self._run(fit, worker, arguments, settings, ready):
            results.append(row | ({"score": json.loads(row["score"])} if row.get("score") else {}))
            if self.noted and not self.single and not len(results) % settings.batch_size:
                answers.write(*self._lines_of(results))
        wall_s = time.perf_counter() - started
        rejected = [row for row in results if row["reason"]]
        if self.single and rejected:
            raise JobError(rejected[0]["reason"])
        if not self.single:
            answers.write(*self._lines_of(results))
            self._say_rejected(rejected, output)
        seconds = sum(row["duration_s"] or 0.0 for row in results)
        return {
            "output": str(output),
            self.unit: len(self.rows),
            f"new_{self.unit}": len(results) - len(rejected),
            "rejected": len(rejected),
            "audio_s": round(seconds, 3),
            "wall_s": round(wall_s, 3),
            "real_time_factor": round(wall_s / seconds, 4) if seconds else None,
            **({name: results[0][name] for name in self.noted} if self.single else {}),
        }

    def _say_rejected(self, rejected: Sequence[Row], output: Path) -> None:
        """One line where requests were refused, JobError where all were."""
        if not rejected:
            return
        first = f"{rejected[0]['id']:.60}: {rejected[0]['reason']:.200}"
        where = f"the reasons are in {output / MANIFEST}; the first: {first}"
        if len(rejected) == len(self.rows) and not self.may_fail:
            raise JobError(f"none of {len(self.rows)} {self.unit} could be made; {where}")
        say(f"{len(rejected)} of {len(self.rows)} {self.unit} were rejected; {where}")

    def _lines_of(self, results: Sequence[Row]) -> tuple[dict[str, str | None], dict[str, Row]]:
        """Reasons and notes of results, by id."""
        made = [row for row in results if not row["reason"]] if self.noted else []
        return {row["id"]: row["reason"] for row in results}, {row["id"]: row for row in made}

    def _run(
        self,
        rows: Sequence[Row],
        worker: type[SystemStage[Q]],
        arguments: Row,
        settings: RequestSettings,
        ready: Callable[[], None],
    ) -> Iterator[Row]:
        """Results in any order; `ready` is called when the worker is there, before it writes."""
        if settings.workers:  # Ray's workers run in another directory
            places = ("output", *self.paths)
            rows = [
                row | {key: str(Path(row[key]).absolute()) for key in places if row.get(key)} for row in rows
            ]
        ordered = sorted(rows, key=self.size)
        batches = pa.Table.from_pylist(ordered, schema=self.schema).to_batches(settings.batch_size)
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        if not tables:
            ready()
            return
        if settings.workers:
            ready()
            yield from on_ray(tables, worker, arguments, settings)
        else:
            answer = worker(**arguments)
            ready()
            for table in tables:
                yield from answer(table).to_pylist()

    def _refuse_names(self) -> None:
        """UsageError for a text or path that is not UTF-8: neither tables nor the manifest can hold it."""
        for row in self.rows:
            for name, value in sorted(row.items(), key=lambda field: field[0] == "id"):
                if isinstance(value, str) and not _is_utf8(value):
                    raise UsageError(f"{name} {value!r:.200}: is not UTF-8")

    def _refuse_inputs(self, output: Path) -> None:
        """UsageError where an answer, or the manifest, would replace a file that is read."""
        inputs = {
            key: path
            for row in self.rows
            for name in self.paths
            if (path := row.get(name)) and (key := _file_key(Path(path)))
        }
        if self.requests is not None and (key := _file_key(self.requests)):
            inputs[key] = str(self.requests)
        outputs = [Path(row["output"]) for row in self.rows]
        for path in outputs if self.single else [output / MANIFEST, *outputs]:
            if (key := _file_key(path)) in inputs:
                raise UsageError(f"{path} is the input {inputs[key]}, which would be overwritten")


def on_ray(
    tables: list[pa.Table],
    worker: type[Callable[[pa.Table], pa.Table]],
    arguments: Row,
    settings: RequestSettings,
) -> Iterator[Row]:
    """Rows of the tables that actors built of `arguments` (`device` is one) make of `tables`, in any order."""
    gpus = 1.0 if arguments["device"] == "cuda" else 0.0
    claim = Claim("system", settings.workers, settings.cpus_per_worker, gpus)
    batches = [RecordingBatch(number, str(number), table) for number, table in enumerate(tables)]
    step = Step(claim, (Stage(worker, arguments),))
    answered: set[int] = set()
    with cluster.session():
        cluster.check_claims([claim], cluster.nodes())
        with closing(stream(lambda: iter(batches), [step])) as results:
            for index, _, table in results:
                if index not in answered:  # what Ray made again, as after the loss of a node
                    yield from table.to_pylist()
                answered.add(index)


def read_lines(path: Path, allowed: str) -> list[tuple[int, str]]:
    """The lines of a file of requests that are not blank, with their numbers. UsageError names what is wrong.

    `allowed` are its endings, in words.
    """
    if path.suffix.lower() not in allowed.split() and (path.suffix or path.exists()):
        raise UsageError(f"{path}: must be {allowed}")
    try:
        if path.exists() and not path.is_file():  # opening a pipe would wait for its other end
            raise UsageError(f"{path}: is not a regular file")
        # Not splitlines: a sentence may hold U+2028 and the like.
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not numbered:
        raise UsageError(f"{path}: holds no line; it must have one a request")
    return numbered


def parse_line(path: Path, number: int, line: str, required: Sequence[str], known: Collection[str]) -> Row:
    """One object of a .jsonl file; its number is its id unless it has one. UsageError names what is wrong."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        rule = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        raise UsageError(f"{path}:{number}: not JSON: {rule}") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in required):
        raise UsageError(f"{path}:{number}: must be an object with a {' and a '.join(required)}")
    unknown = sorted(set(row) - set(known))
    if unknown:
        raise UsageError(f"{path}:{number}: unknown key {unknown[0]}; known: {', '.join(sorted(known))}")
    return {"id": f"{number:06d}"} | row


def checked(row: Row, number: int, rules: Mapping[str, Callable[[object], str | None]]) -> Row:
    """The row, or, where a value breaks a rule, without it and with the `problem` that its line has.

    A rule says what is wrong with a value that is not null; texts must be UTF-8.
    """
    for name, value in list(row.items()):
        rule = rules[name](value) if name in rules and value is not None else None
        if rule is None and isinstance(value, str) and not _is_utf8(value):
            rule = "must be UTF-8; it holds half a surrogate pair"
        if rule is not None:
            kept = "" if isinstance(value, str) else None
            row = {"problem": f"line {number}: {name} is {value!r:.60}: {rule}"} | row | {name: kept}
    return row


def is_text(value: object) -> str | None:
    """A rule of `checked`."""
    return None if isinstance(value, str) else "must be a text"


def beside(path: Path, row: Row, names: Sequence[str]) -> Row:
    """The row with the files that it names found from the folder of the file that names them."""
    return row | {name: str(path.parent / row[name]) for name in names if isinstance(row.get(name), str)}


def require_file(what: str, path: Path) -> None:
    """UsageError unless `path`, which `what` names, is a regular file."""
    if not path.is_file():
        raise UsageError(f"{what} {path}: {'is not a regular file' if path.exists() else 'no such file'}")


def file_bytes(path: str) -> int:
    """The size of a file, to order requests by; 0 for one that cannot be looked at: its reader says why."""
    try:
        return Path(path).stat().st_size
    except (OSError, ValueError):
        return 0


def with_outputs(rows: Sequence[Row], path: Path, folder: Path) -> list[Row]:
    """Rows with the WAV file in `folder` that their id names. UsageError for an id that names none, or twice."""
    seen: set[str] = set()
    named: list[Row] = []
    for row in rows:
        if (
            not isinstance(row["id"], str)
            or not re.fullmatch(r"[\w.-]+", row["id"])
            or row["id"].startswith(".")
        ):
            raise UsageError(
                f"{path}: id {row['id']!r}: must be letters, digits, '_', '-' and '.', it names a file"
            )
        if row["id"] in seen:
            raise UsageError(f"{path}: id {row['id']!r} occurs twice; each names a file of its own")
        seen.add(row["id"])
        name = f"{row['id']}.wav"
        if len(name.encode()) > _NAME_BYTES:
            rule = f"a file name of {len(name.encode())} bytes; at most {_NAME_BYTES} are allowed"
            row = row | {"problem": f"id {row['id']!r:.60}: {rule}"}
            name = f"{hashlib.sha256(name.encode()).hexdigest()}.wav"
        named.append(row | {"output": str(folder / name)})
    return named


def _refused(row: Row) -> Row:
    return {"id": row["id"], "duration_s": None, "reason": row["problem"]}


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _file_key(path: Path) -> tuple[int, int] | None:
    """Equal for two names of one file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _description(system: Path) -> str:
    from models.system_files import DESCRIPTION

    return hashlib.sha256((system / DESCRIPTION).read_bytes()).hexdigest()
