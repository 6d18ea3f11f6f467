"""Sentences to WAV files, with the time that each took: the worker of `evaluate`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipelines.rows import Row
from pipelines.stages.speak import Speak

TIMES = "times.jsonl"


class TimedSpeak(Speak):
    """Speaks as `Speak` does, and appends a line per sentence to TIMES in the folder of its WAV file.

    A line has `id`, `duration_s`, `finish_reason`, `evaluations`, and `wall_s`: the batch's time, shared by length.
    Prompts are read and WAV files written within that time, and the system is loaded before it.
    """

    def __call__(self, requests: pa.Table) -> pa.Table:
        """See SystemStage."""
        started = time.perf_counter()
        results = super().__call__(requests)
        wall_s = time.perf_counter() - started
        spoken = [row for row in results.to_pylist() if row["reason"] is None]
        total_s = sum(row["duration_s"] for row in spoken)
        folders: dict[Path, list[Row]] = {}
        for row in spoken:
            kept = {name: row[name] for name in ("id", "duration_s", "finish_reason", "evaluations")}
            share = row["duration_s"] / total_s if total_s else 1 / len(spoken)
            folders.setdefault(Path(row["output"]).parent, []).append(kept | {"wall_s": wall_s * share})
        for folder, rows in folders.items():
            _append(folder / TIMES, rows)
        return results


def read_times(folder: Path) -> dict[str, Row]:
    """The last line of each sentence, by id; a line that an interruption cut short is left out."""
    path = folder / TIMES
    found: dict[str, Row] = {}
    for line in path.read_text(encoding="utf-8").split("\n") if path.is_file() else ():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "id" in row:
            found[row["id"]] = row
    return found


def _append(path: Path, rows: Sequence[Row]) -> None:
    # One write, so that lines of several workers do not mix; the line break ahead ends a line that was cut short.
    text = "\n" + "".join(f"{json.dumps(row)}\n" for row in rows)
    with path.open("ab", buffering=0) as file:
        file.write(text.encode())
