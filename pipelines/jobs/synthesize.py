"""Text, with or without a voice prompt, to speech: one sentence, or a file of them.

One sentence, and small files, run in this process. `workers` > 0 spreads a file over Ray actors. A rerun leaves out the
sentences whose WAV is already there, so an interrupted job goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import pyarrow as pa
from pydantic import Field

from catalog.command import JobError, UsageError, add_config_arguments, require_absolute_under_ray_job
from catalog.config import Settings, load_config, to_yaml
from catalog.files import write_text
from pipelines.rows import Row
from pipelines.stages.speak import REQUESTS, Speak, device_of

name = "synthesize"
help = "text, with or without a voice prompt, to speech"

SHORT = {"ar_temp": float, "nar_temp": float, "max_ar_steps": int}
"""Sampling options with a flag of their own, for those who come from VALL-E; a system without them refuses."""
_FIELDS = {"id", "text", "prompt", "prompt_text", "duration_s", "language", "phones"}


class SynthesizeSettings(Settings):
    """Settings of the job; `sampling` goes to the system, which refuses what it does not know."""

    seed: int = Field(0, ge=0, description="the same seed, id and text give the same speech")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(16, ge=1, le=1024, description="sentences spoken together")
    workers: int = Field(0, ge=0, description="Ray actors; 0 speaks in this process")
    cpus_per_worker: float = Field(1.0, gt=0)
    sampling: dict[str, object] = Field(default_factory=dict, description="steps, guidance, temperature, ...")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument(
        "--model", required=True, help="models:/NAME@ALIAS, models:/NAME/VERSION or a system directory"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--text", help="the sentence to speak")
    what.add_argument(
        "--input", type=Path, help="sentences: .txt (one a line) or .jsonl (id, text, prompt, ...)"
    )
    parser.add_argument("--prompt", type=Path, help="a recording of the voice to speak with")
    parser.add_argument("--prompt-text", help="what is said in the prompt; a few systems need no such words")
    parser.add_argument(
        "--duration", type=float, metavar="SECONDS", help="length of the speech; default: the system's rule"
    )
    for option, kind in SHORT.items():
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=kind,
            metavar="NUMBER",
            help=f"short for --set sampling.{option}=NUMBER",
        )
    parser.add_argument("-o", "--output", type=Path, required=True, help="WAV file, or a folder with --input")
    parser.add_argument(
        "--tracking-uri", help="MLflow; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Speak; returns the JSON line: output, sentences, rejected, seconds of audio, wall time, real-time factor."""
    given = {option: getattr(arguments, option) for option in SHORT}
    short = [f"sampling.{option}={value}" for option, value in given.items() if value is not None]
    settings = load_config(SynthesizeSettings, arguments.config, [*arguments.overrides, *short])
    require_absolute_under_ray_job(output=arguments.output, input=arguments.input, prompt=arguments.prompt)
    requests = _requests(arguments)
    if arguments.dry_run:
        print(to_yaml(settings), f"sentences: {len(requests)}", sep="")  # noqa: T201
        return None
    from catalog.models import resolve

    system = str(resolve(arguments.model, arguments.tracking_uri))
    todo = [row for row in requests if arguments.text is not None or not Path(row["output"]).exists()]
    started = time.perf_counter()
    results = list(_speak(system, todo, settings))
    wall_s = time.perf_counter() - started
    rejected = [row for row in results if row["reason"]]
    if arguments.text is not None and rejected:
        raise JobError(rejected[0]["reason"])
    if arguments.input is not None:
        _write_manifest(arguments.output / "manifest.jsonl", requests, results)
    seconds = sum(row["duration_s"] or 0.0 for row in results)
    return {
        "output": str(arguments.output),
        "sentences": len(requests),
        "new_sentences": len(results) - len(rejected),
        "rejected": len(rejected),
        "audio_s": round(seconds, 3),
        "wall_s": round(wall_s, 3),
        "real_time_factor": round(wall_s / seconds, 4) if seconds else None,
    }


def _speak(system: str, rows: list[Row], settings: SynthesizeSettings) -> Iterator[Row]:
    if settings.workers:  # Ray's workers run in another directory
        places = ("output", "prompt")
        rows = [row | {key: str(Path(row[key]).absolute()) for key in places if row.get(key)} for row in rows]
    # Neighbours of like length waste the least padding.
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: len(row["text"])), schema=REQUESTS)
    worker: Row = {
        "model": system,
        "device": device_of(settings.device),
        "seed": settings.seed,
        "options": settings.sampling,
    }
    if settings.workers and len(table):
        yield from _speak_on_ray(table, worker, settings)
    elif len(table):
        speak = Speak(**worker)
        for batch in table.to_batches(max_chunksize=settings.batch_size):
            yield from speak(pa.Table.from_batches([batch])).to_pylist()


def _speak_on_ray(table: pa.Table, worker: Row, settings: SynthesizeSettings) -> Iterator[Row]:
    import ray
    from ray.data import ActorPoolStrategy

    data = ray.data.from_arrow(
        table.to_batches(max_chunksize=settings.batch_size)
        and [pa.Table.from_batches([batch]) for batch in table.to_batches(max_chunksize=settings.batch_size)]
    )
    spoken = data.map_batches(
        Speak,
        fn_constructor_kwargs=worker,
        batch_size=settings.batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=settings.workers),
        num_cpus=settings.cpus_per_worker,
        num_gpus=1 if worker["device"] == "cuda" else 0,
    )
    for batch in spoken.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from batch.to_pylist()


def _requests(arguments: argparse.Namespace) -> list[Row]:
    given = {
        "prompt": str(arguments.prompt) if arguments.prompt else None,
        "prompt_text": arguments.prompt_text,
        "duration_s": arguments.duration,
    }
    if arguments.prompt and not arguments.prompt.is_file():
        raise UsageError(f"--prompt {arguments.prompt}: no such file")
    if arguments.duration is not None and not 0 < arguments.duration <= 600:
        raise UsageError(f"--duration {arguments.duration}: must be above 0 and at most 600 seconds")
    if arguments.text is not None:
        if arguments.output.suffix.lower() != ".wav":
            raise UsageError(f"--output {arguments.output}: must end in .wav when --text is given")
        return [
            {"id": arguments.output.stem, "text": arguments.text, "output": str(arguments.output), **given}
        ]
    rows = [given | row for row in _read(arguments.input)]
    _check_ids(rows, arguments.input)
    return [row | {"output": str(arguments.output / f"{row['id']}.wav")} for row in rows]


def _read(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    if path.suffix.lower() not in (".jsonl", ".txt"):
        raise UsageError(f"{path}: must be .txt (one sentence a line) or .jsonl")
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if path.suffix.lower() == ".txt":
        return [{"id": f"{number:06d}", "text": line.strip()} for number, line in numbered]
    return [_parse(path, number, line) for number, line in numbered]


def _parse(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{number}: not JSON: {error.msg}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise UsageError(f"{path}:{number}: must be an object with a text")
    unknown = sorted(set(row) - _FIELDS)
    if unknown:
        raise UsageError(f"{path}:{number}: unknown key {unknown[0]}; known: {', '.join(sorted(_FIELDS))}")
    return {"id": f"{number:06d}"} | row


def _check_ids(rows: list[Row], path: Path) -> None:
    seen: set[str] = set()
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


def _write_manifest(path: Path, requests: list[Row], results: list[Row]) -> None:
    """One line per sentence: the request, its output, and the reason where there is none."""
    reasons = {row["id"]: row["reason"] for row in results}
    lines = (json.dumps(row | {"reason": reasons.get(row["id"])}, ensure_ascii=False) for row in requests)
    write_text(path, "".join(f"{line}\n" for line in lines))
