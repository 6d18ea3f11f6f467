"""The recordings of an evaluation: the system's speech with each seed, and the references through its codec.

Both are made by the code of `synthesize`, each in a folder with a manifest, so that a rerun makes what is missing or
has changed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pipelines.evaluation.settings import EvaluateSettings
from pipelines.execution.requests import MANIFEST, Requests, file_bytes
from pipelines.rows import Row
from pipelines.stages.round_trip import RECORDINGS, RoundTrip
from pipelines.stages.speak import REQUESTS
from pipelines.stages.timed_speak import TimedSpeak

CODEC = "codec"
"""The folder of the references' round trip; the others are `seed-0`, `seed-1`, ..."""


def make(
    rows: Sequence[Row], system: Path, settings: EvaluateSettings, output: Path, source: Path | None
) -> dict[str, list[Row]]:
    """Make what is missing of `rows`, which come from the file `source`; returns the requests of each folder.

    A row with a `problem` is refused with it.
    """
    made: dict[str, list[Row]] = {}
    model = {"model": str(system)}
    for seed in settings.all_seeds:
        folder = output / f"seed-{seed}"
        sentences = [_without_reference(row) | _output(row, folder) for row in rows]
        requests = Requests(
            sentences, REQUESTS, ("prompt", "source"), "sentences", False, _characters, source, may_fail=True
        )
        requests.answer(TimedSpeak, model, settings.model_copy(update={"seed": seed}), folder)
        made[folder.name] = sentences
    folder = output / CODEC
    kept = [
        {"id": row["id"], "reference": row["reference"]} | _output(row, folder)
        for row in rows
        if row.get("reference") and not row.get("problem")
    ]
    if kept:
        recordings = Requests(
            kept, RECORDINGS, ("reference",), "recordings", False, _bytes, source, may_fail=True
        )
        plain = settings.model_copy(update={"seed": 0, "sampling": {}})
        recordings.answer(RoundTrip, model, plain, folder)
    return made | {CODEC: kept}


def refusals(folder: Path) -> dict[str, str]:
    """Reasons by id of the requests that the manifest of a folder says were refused."""
    path = folder / MANIFEST
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
    rows = [json.loads(line) for line in lines if line]
    return {row["id"]: row["reason"] for row in rows if row["reason"]}


def _without_reference(row: Row) -> Row:
    """Speech does not depend on it."""
    return {key: value for key, value in row.items() if key != "reference"}


def _output(row: Row, folder: Path) -> Row:
    return {"output": str(folder / Path(row["output"]).name)}


def _characters(row: Row) -> int:
    return len(row["text"])


def _bytes(row: Row) -> int:
    return file_bytes(row["reference"])
