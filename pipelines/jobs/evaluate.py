"""A system judged on sentences: word errors, speaker similarity, quality, with the references and the codec's ceiling.

Sentences are spoken by the code of `synthesize`, each with several seeds, and judged; a rerun makes and judges only
what is missing or has changed.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.command import JobError, UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import load_config, to_yaml
from catalog.files import alone, write_text
from catalog.outward import say
from models.metrics.word_errors import normalized
from pipelines.evaluation.protocols import PRESETS
from pipelines.evaluation.settings import EvaluateSettings, Judges, judges_of
from pipelines.execution.requests import add_model_arguments, with_outputs
from pipelines.execution.sentences import read_sentences
from pipelines.rows import Row

if TYPE_CHECKING:
    from pipelines.evaluation.groups import Judged
    from pipelines.evaluation.page import Heard
    from pipelines.evaluation.summary import Figure

name = "evaluate"
help = "a system judged on sentences: word errors, speaker similarity, quality, with intervals"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    add_model_arguments(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--input", type=Path, help="sentences: .jsonl (fields of synthesize, and reference) or .txt"
    )
    what.add_argument(
        "--preset", nargs=2, metavar=("NAME", "PATH"), help=f"a published list: {', '.join(PRESETS)}"
    )
    parser.add_argument("-o", "--output", type=local, required=True, help="folder")
    parser.add_argument("--worst", type=int, default=20, help="sentences on the page; default: 20")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Speak, judge, summarise; returns the JSON line: sentences, rejected, figures of the system, ..."""
    settings = load_config(EvaluateSettings, arguments.config, arguments.overrides)
    if arguments.worst < 0:
        raise UsageError(f"--worst {arguments.worst}: must be 0 or more")
    source, given = _source(arguments)
    require_absolute_under_ray_job(output=arguments.output, input=source)
    rows = [_checked(row, settings.language) for row in with_outputs(given, source, arguments.output)]
    if arguments.dry_run:
        print(to_yaml(settings), f"sentences: {len(rows)}", sep="")  # noqa: T201
        return None
    judges = judges_of(settings)
    for line in judges.left_out:
        say(f"left out: {line}")
    from catalog.models import resolve
    from models.system_files import require
    from pipelines.evaluation.groups import SYSTEM, judge_all
    from pipelines.evaluation.recordings import make

    system = resolve(arguments.model, arguments.tracking_uri)
    require(system, "speak")
    with alone(arguments.output):
        made = make(rows, system, settings, arguments.output, source if source.is_file() else None)
        judged = judge_all(rows, made, settings, judges, arguments.output)
        if all(row["reason"] for row in judged.groups[SYSTEM]):
            why = judged.rejects[0]["reason"] if judged.rejects else "there are none"
            raise JobError(f"none of {len(rows)} sentences could be judged: {why}")
        return _write(rows, judged, judges, settings, arguments)


def _source(arguments: argparse.Namespace) -> tuple[Path, list[Row]]:
    """The origin of the sentences, and their rows."""
    if arguments.input is not None:
        return arguments.input, read_sentences(arguments.input, ("reference",))
    preset, path = arguments.preset[0], Path(arguments.preset[1])
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    return path, PRESETS[preset](path)


def _checked(row: Row, language: str) -> Row:
    """The row with the `problem` for which it cannot be judged, if there is one."""
    reference = row.get("reference")
    if row.get("problem"):
        return row
    if not any(map(str.isalnum, normalized(row["text"], row.get("language") or language))):
        return row | {"problem": f"text is {row['text']!r:.60}: it has no words"}
    if reference and not os.path.isfile(reference):  # noqa: PTH113 - Path's raises for a name that is too long
        return row | {"problem": f"reference {reference}: no such file"}
    return row


def _write(
    rows: Sequence[Row],
    judged: Judged,
    judges: Judges,
    settings: EvaluateSettings,
    arguments: argparse.Namespace,
) -> dict[str, object]:
    """Write the figures, the page and the model version's metrics; returns the JSON line."""
    from pipelines.evaluation.groups import SYSTEM
    from pipelines.evaluation.page import page
    from pipelines.evaluation.summary import table

    figures = table(judged.groups, settings.seed, settings.resamples)
    facts: dict[str, object] = {
        "model": arguments.model,
        **judges.identity,
        "left_out": list(judges.left_out),
        "seeds": list(settings.all_seeds),
        "sentences": len(rows),
        "rejected": len(judged.rejects),
    }
    output: Path = arguments.output
    worst = _worst(judged, rows, output, arguments.worst)
    write_text(output / "evaluation.html", page(arguments.model, facts, figures, worst, judged.rejects))
    run_id = _log(arguments.model, figures, judges, arguments.tracking_uri)
    shown = {of: {key: asdict(figure) for key, figure in found.items()} for of, found in figures.items()}
    result = {**facts, "run": run_id, "table": shown, "rejects": judged.rejects}
    write_text(output / "evaluation.json", json.dumps(result, ensure_ascii=False, indent=2) + "\n")
    said = {key: facts[key] for key in ("model", "sentences", "rejected", "left_out")}
    said |= {
        "seeds": settings.seeds,
        "recogniser": judges.recogniser_name,
        "new_judgements": judged.new,
        "run": run_id,
    }
    system = {key: round(figure.value, 6) for key, figure in figures[SYSTEM].items()}
    return {"output": str(output), **said, **system}


def _worst(judged: Judged, rows: Sequence[Row], output: Path, count: int) -> list[Heard]:
    """The sentences whose worst draw is worst, with that draw, the codec's round trip, reference and prompt."""
    from pipelines.evaluation.groups import SYSTEM
    from pipelines.evaluation.page import Heard
    from pipelines.evaluation.recordings import CODEC
    from pipelines.evaluation.summary import worst_first

    given = {row["id"]: row for row in rows}
    draws = {row["id"]: row for row in reversed(worst_first(judged.groups[SYSTEM]))}
    found = []
    for draw in worst_first(list(draws.values()))[:count]:
        row = given[draw["id"]]
        wave = Path(row["output"]).name
        recordings = {draw["seed"]: str(output / draw["seed"] / wave)}
        if row.get("reference"):
            recordings |= {"codec round trip": str(output / CODEC / wave), "reference": row["reference"]}
        if row.get("prompt"):
            recordings["prompt"] = row["prompt"]
        found.append(Heard(draw, row["text"], recordings))
    return found


def _log(
    model: str, figures: Mapping[str, Mapping[str, Figure]], judges: Judges, tracking_uri: str | None
) -> str | None:
    """Figures as metrics of the version's run, whose id is returned; None for a system directory."""
    if Path(model).is_dir():
        return None
    from catalog import models
    from pipelines.evaluation.groups import REFERENCES, SYSTEM
    from pipelines.evaluation.recordings import CODEC

    uri = models.tracking_uri(tracking_uri)
    metrics = {
        f"evaluation/{of}/{key}": figure.value
        for of in (REFERENCES, CODEC, SYSTEM)
        for key, figure in figures.get(of, {}).items()
    }
    tags = {} if judges.recogniser_name is None else {"speechmill.recogniser": judges.recogniser_name}
    return models.log_metrics(models.describe(model, uri), metrics, tags, uri)
