"""Judgements by row of the table: references, codec round trip, system (all seeds) and each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.evaluation.judge import Judge
from pipelines.evaluation.judgements import judge_folder
from pipelines.evaluation.recordings import CODEC, refusals
from pipelines.evaluation.settings import EvaluateSettings, Judges
from pipelines.rows import Row
from pipelines.stages.system import device_of
from pipelines.stages.timed_speak import read_times

REFERENCES, SYSTEM = "references", "system"


@dataclass(frozen=True)
class Judged:
    """All judgements of an evaluation."""

    groups: dict[str, list[Row]]
    """By row of the table, in its order; those of the system have their `seed`."""
    rejects: list[Row]
    """What is in no figure: `of` (`input`, or a folder), `id`, `reason`."""
    new: int
    """Judgements that were made now."""


def judge_all(
    rows: Sequence[Row],
    recordings: Mapping[str, Sequence[Row]],
    settings: EvaluateSettings,
    judges: Judges,
    output: Path,
) -> Judged:
    """Judge `recordings`, requests by folder of `output`, and the references of `rows`."""
    judge = Judge(settings, judges, device_of(settings.device))
    usable = {row["id"]: row for row in rows if not row.get("problem")}
    rejects = [
        {"of": "input", "id": row["id"], "reason": row["problem"]} for row in rows if row.get("problem")
    ]
    references = [row | {"output": row["reference"]} for row in usable.values() if row.get("reference")]
    found: dict[str, list[Row]] = {}
    total = 0
    for of, made in {REFERENCES: references, **recordings}.items():
        refused = refusals(output / of)
        tried = [row for row in made if row["id"] in usable]
        asked = [
            _to_judge(usable[row["id"]], row["output"], of, settings.language)
            for row in tried
            if row["id"] not in refused
        ]
        judged, new = judge_folder(output / of, asked, judges, judge, settings.batch_size)
        times, total = read_times(output / of), total + new
        found[of] = [times.get(row["id"], {}) | row for row in judged]
        reasons = refused | {row["id"]: row["reason"] for row in judged if row["reason"]}
        rejects += [
            {"of": of, "id": row["id"], "reason": reasons[row["id"]]} for row in tried if row["id"] in reasons
        ]
    ceiling = {of: group for of in (REFERENCES, CODEC) if (group := found.pop(of))}
    system = [row | {"seed": of} for of, group in found.items() for row in group]
    return Judged({**ceiling, SYSTEM: system, **found}, rejects, total)


def _to_judge(row: Row, wave: str, of: str, language: str) -> Row:
    return {
        "id": row["id"],
        "wave": wave,
        "text": row["text"],
        "language": row.get("language") or language,
        "prompt": row.get("prompt"),
        "reference": None if of == REFERENCES else row.get("reference"),
    }
