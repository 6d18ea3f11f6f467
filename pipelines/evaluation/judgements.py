"""The judgements of a folder, kept in its `judged.jsonl`: a rerun judges what is missing or has changed.

A line per row: the figures of `judge.Judge`, and `judged`, a digest of all that they depend on: the recording's bytes,
the text, prompt and reference, and the judges. What could not be judged is tried again. The file is replaced after
each batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from catalog.config import digest
from catalog.files import write_text
from pipelines.evaluation.settings import Judges
from pipelines.rows import Row

JUDGED = "judged.jsonl"
_RECORDINGS = ("wave", "prompt", "reference")


def judge_folder(
    folder: Path,
    rows: Sequence[Row],
    judges: Judges,
    judge: Callable[[Sequence[Row]], Iterable[Row]],
    batch_size: int,
) -> tuple[list[Row], int]:
    """The judgements of `rows`, in order, and the number of those made now; `judge` gives them in any order."""
    keys = {row["id"]: _key(row, judges) for row in rows}
    kept = {
        name: line
        for name, line in _read(folder / JUDGED).items()
        if keys.get(name) == line["judged"] and not line.get("reason")
    }
    todo = [row for row in rows if row["id"] not in kept]
    for count, judged in enumerate(judge(todo) if todo else (), 1):
        about = {"id": judged["id"], "judged": keys[judged["id"]], "recogniser": judges.recogniser_name}
        kept[judged["id"]] = about | judged
        if count % batch_size and count < len(todo):
            continue
        lines = [kept[row["id"]] for row in rows if row["id"] in kept]
        write_text(folder / JUDGED, "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines))
    return [kept[row["id"]] for row in rows], len(todo)


def _key(row: Row, judges: Judges) -> str:
    recordings = {name: _sha256(row[name]) for name in _RECORDINGS if row[name]}
    return digest({"text": row["text"], "language": row["language"], **recordings, "judges": judges.identity})


def _sha256(path: str) -> str:
    try:
        found = Path(path).stat()
        return _of_the_file(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return ""


@cache
def _of_the_file(path: str, size: int, mtime_ns: int) -> str:  # noqa: ARG001
    """Read once per process: prompts and references stand in several folders."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Row]:
    found: dict[str, Row] = {}
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("id"), str) and "judged" in row:
            found[row["id"]] = row
    return found
