"""The manifest of a folder of answers: which WAV file answers which request, so that a rerun makes what has changed.

A line a request: its fields, its `output`, the `reason` where there is none, and `request`, a digest of all that the
answer depends on. A line is written before its WAV file, and a WAV file that answers another request is deleted before
its line is replaced. So a file that is there answers the request in its line, wherever a job was interrupted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from catalog.command import UsageError
from catalog.files import write_text
from pipelines.rows import Row

_OF_THE_LINE = ("output", "reason", "request", "candidate", "candidates", "score")
_NOT_YET = "not made yet"


@dataclass(frozen=True)
class Answers:
    """Answers in the folder of `path`, the manifest."""

    path: Path
    rows: Sequence[Row]
    """The requests, each with its `output`."""
    files: tuple[str, ...]
    """Fields that name files whose contents matter."""
    made_with: Mapping[str, object]
    """What all answers depend on: the system, its options, the seed."""
    noted: tuple[str, ...] = ()
    """Fields that an answer adds to its line. Without them, after an interruption, it is made again."""

    def outdated(self) -> tuple[list[Row], list[Row]]:
        """Requests to answer, and those among them whose WAV file answers something else.

        UsageError for a WAV file at the place of an answer that the manifest does not know: it may be anyone's.
        """
        known = self._lines()
        todo: list[Row] = []
        changed: list[Row] = []
        for row in self.rows:
            output = Path(row["output"])
            if not output.exists():
                todo.append(row)
                continue
            if row["id"] not in known:
                raise UsageError(
                    f"{output} is there, and {self.path} does not say what it is; "
                    "delete it or give another --output"
                )
            if not self._is_answer(row, known[row["id"]]):
                todo.append(row)
                changed.append(row)
        return todo, changed

    def begin(self, changed: Sequence[Row]) -> None:
        """Make way for answers: delete outdated files, then write the lines of all requests."""
        for row in changed:
            Path(row["output"]).unlink(missing_ok=True)
        self.write({})

    def write(self, reasons: Mapping[str, str | None], notes: Mapping[str, Row] | None = None) -> None:
        """Replace the manifest: a line a request, then lines of other requests whose WAV files are still here.

        `reasons` of requests that were answered now, null for those that have an answer; `notes` are the noted fields
        of these.
        """
        ids, known = {row["id"] for row in self.rows}, self._lines()
        others = [
            line
            for name, line in known.items()
            if name not in ids and (self.path.parent / f"{name}.wav").exists()
        ]
        lines = [
            {key: value for key, value in row.items() if key != "problem"}
            | {"reason": self._reason(row, reasons), "request": self._digest(row)}
            | self._notes(row, known, notes or {})
            for row in self.rows
        ]
        text = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in [*lines, *others])
        write_text(self.path, text)

    def _lines(self) -> dict[str, Row]:
        """Lines of the manifest by id; lines that cannot be read are left out."""
        found: dict[str, Row] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        for line in text.split("\n"):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and isinstance(row.get("id"), str):
                found[row["id"]] = row
        return found

    def _reason(self, row: Row, reasons: Mapping[str, str | None]) -> str | None:
        there = row["id"] in reasons or Path(row["output"]).exists()
        return reasons.get(row["id"]) if there else _NOT_YET

    def _notes(self, row: Row, known: Mapping[str, Row], notes: Mapping[str, Row]) -> Row:
        if row["id"] in notes:
            return {name: notes[row["id"]][name] for name in self.noted}
        line = known.get(row["id"], {})
        kept = line.get("request") == self._digest(row) and Path(row["output"]).exists()
        return {name: line[name] for name in self.noted if kept and name in line}

    def _is_answer(self, row: Row, line: Row) -> bool:
        if "request" in line:
            noted = all(name in line for name in self.noted)
            return noted and bool(line["request"] == self._digest(row))
        return _fields(row) == _fields(line)  # a manifest from before there were digests

    def _digest(self, row: Row) -> str:
        files = {name: _stat(row.get(name)) for name in self.files}
        about = {**_fields(row), **files, "asked": self.made_with}  # "asked" is in the digests of manifests
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()


def _fields(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None and name not in _OF_THE_LINE}


def _stat(path: str | None) -> list[object] | None:
    """Name, size and time of the last change of a file: the same wherever a folder is moved to."""
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return [Path(path).name]
    return [Path(path).name, found.st_size, found.st_mtime_ns]
