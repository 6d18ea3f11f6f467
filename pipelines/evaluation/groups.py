"""Judgements by row of the table: references, codec round trip, system (all seeds) and each seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from pipelines.evaluation.judge import TO_JUDGE, Judge
from pipelines.evaluation.judgements import judge_folder
from pipelines.evaluation.recordings import CODEC, refusals
from pipelines.evaluation.settings import EvaluateSettings, Judges
from pipelines.execution.requests import on_ray
from pipelines.rows import Row
from pipelines.sources.uris import located
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
    judge = _Workers(settings, judges)
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
        to_judge = [
            _to_judge(usable[row["id"]], row["output"], of, settings.language)
            for row in tried
            if row["id"] not in refused
        ]
        judged, new = judge_folder(output / of, to_judge, judges, judge, settings.batch_size)
        times, total = read_times(output / of), total + new
        found[of] = [times.get(row["id"], {}) | row for row in judged]
        reasons = refused | {row["id"]: row["reason"] for row in judged if row["reason"]}
        rejects += [
            {"of": of, "id": row["id"], "reason": reasons[row["id"]]} for row in tried if row["id"] in reasons
        ]
    ceiling = {of: group for of in (REFERENCES, CODEC) if (group := found.pop(of))}
    system = [row | {"seed": of} for of, group in found.items() for row in group]
    return Judged({**ceiling, SYSTEM: system, **found}, rejects, total)


class _Workers:
    """Judges batches in this process, or on Ray's actors."""

    def __init__(self, settings: EvaluateSettings, judges: Judges) -> None:
        self._settings = settings
        self._arguments: Row = {
            "settings": _located(settings),
            "judges": judges,
            "device": device_of(settings.device),
        }

    def __call__(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Judgements in any order."""
        batches = pa.Table.from_pylist(list(rows), schema=TO_JUDGE).to_batches(self._settings.batch_size)
        tables = [pa.Table.from_batches([batch]) for batch in batches]
        if self._settings.workers:
            found = on_ray(tables, Judge, self._arguments, self._settings)
        else:
            found = (row for table in tables for row in self._here(table).to_pylist())
        yield from (json.loads(row["figures"]) for row in found)

    @cached_property
    def _here(self) -> Judge:
        return Judge(**self._arguments)


def _located(settings: EvaluateSettings) -> EvaluateSettings:
    """With models as workers find them, whose working directory may be another."""
    transcribe, speaker = settings.transcribe, settings.speaker
    return settings.model_copy(
        update={
            "transcribe": transcribe and replace(transcribe, model=located(transcribe.model)),
            "speaker": speaker and located(speaker),
        }
    )


def _to_judge(row: Row, wave: str, of: str, language: str) -> Row:
    return {
        "id": row["id"],
        "wave": _absolute(wave),
        "text": row["text"],
        "language": row.get("language") or language,
        "prompt": _absolute(row.get("prompt")),
        "reference": None if of == REFERENCES else _absolute(row.get("reference")),
    }


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
