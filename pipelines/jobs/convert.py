"""Voice conversion: what a source recording says, in the voice of a reference recording; one pair, or a file of them.

One pair, and small files, run in this process. `workers` > 0 spreads a file over Ray actors. A rerun leaves out the
pairs that are converted already. Sources may be hours long: those above the system's `max_source_s` are converted in
windows that begin and end at quiet moments.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from catalog.command import UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import load_config, to_yaml
from pipelines.execution.requests import (
    Requests,
    RequestSettings,
    add_model_arguments,
    beside,
    checked,
    file_bytes,
    parse_line,
    read_lines,
    require_file,
    with_outputs,
)
from pipelines.rows import Row
from pipelines.stages.convert import PAIRS, Convert

name = "convert"
help = "a recording in the voice of another"

_REQUIRED = ("source", "reference")


class ConvertSettings(RequestSettings):
    """Settings of the job."""

    max_source_s: float = Field(4 * 3600.0, gt=0, description="longer sources are refused")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="SOURCE", nargs="?", type=Path, help="recording of what is said")
    parser.add_argument("reference", metavar="REFERENCE", nargs="?", type=Path, help="recording of the voice")
    parser.add_argument("out", metavar="OUT", nargs="?", type=local, help="WAV file")
    parser.add_argument(
        "--input", type=Path, help="instead: pairs as .jsonl (source, reference, and id if you like)"
    )
    parser.add_argument("-o", "--output", type=local, help="folder for WAV files, with --input")
    add_model_arguments(parser)
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Convert; returns the JSON line: output, pairs, rejected, seconds of audio, wall time, real-time factor."""
    settings = load_config(ConvertSettings, arguments.config, arguments.overrides)
    given = {name: getattr(arguments, name) for name in ("source", "reference", "out", "input", "output")}
    require_absolute_under_ray_job(**given)
    rows, single = _pairs(arguments)
    if arguments.dry_run:
        print(to_yaml(settings), f"pairs: {len(rows)}", sep="")  # noqa: T201
        return None
    from catalog.models import resolve
    from models.system_files import require

    system = resolve(arguments.model, arguments.tracking_uri)
    require(system, "convert")
    requests = Requests(rows, PAIRS, _REQUIRED, "pairs", single, _source_bytes, arguments.input)
    worker = {"model": str(system), "longest_s": settings.max_source_s}
    return requests.answer(Convert, worker, settings, arguments.out if single else arguments.output)


def _pairs(arguments: argparse.Namespace) -> tuple[list[Row], bool]:
    """The pairs, and whether they are one that was named itself. UsageError names what is missing."""
    one = (arguments.source, arguments.reference, arguments.out)
    if arguments.input is not None:
        if any(one) or arguments.output is None:
            raise UsageError("--input takes --output FOLDER, and no SOURCE, REFERENCE and OUT")
        lines = read_lines(arguments.input, ".jsonl")
        known = ("id", *_REQUIRED)
        numbered = [
            (number, parse_line(arguments.input, number, line, _REQUIRED, known)) for number, line in lines
        ]
        rows = [beside(arguments.input, checked(row, number, {}), _REQUIRED) for number, row in numbered]
        return with_outputs(rows, arguments.input, arguments.output), False
    if not all(one) or arguments.output is not None:
        raise UsageError("give SOURCE REFERENCE OUT, or --input PAIRS.jsonl --output FOLDER")
    source, reference, out = one
    for what, path in (("SOURCE", source), ("REFERENCE", reference)):
        require_file(what, path)
    if out.suffix.lower() != ".wav":
        raise UsageError(f"OUT {out}: must end in .wav")
    return [{"id": out.stem, "source": str(source), "reference": str(reference), "output": str(out)}], True


def _source_bytes(row: Row) -> int:
    return file_bytes(row["source"])
