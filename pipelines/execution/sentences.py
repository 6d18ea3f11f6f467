"""Files of sentences to speak: one per line (.txt), or rows of .jsonl."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipelines.execution.requests import beside, checked, is_text, parse_line, read_lines
from pipelines.rows import Row

_FIELDS = {"id", "text", "prompt", "prompt_text", "duration_s", "language", "phones", "source", "edit_s"}


def read_sentences(path: Path, recordings: Sequence[str] = ()) -> list[Row]:
    """Rows with an `id`, a `text` and what else they have; `recordings` are further fields that name files.

    A row with a value that breaks a rule has a `problem`. UsageError for a file that cannot be read.
    """
    numbered = read_lines(path, ".txt .jsonl")
    if path.suffix.lower() == ".txt":
        return [{"id": f"{number:06d}", "text": line.strip()} for number, line in numbered]
    known, rules = _FIELDS | set(recordings), _RULES | dict.fromkeys(recordings, is_text)
    rows = [(number, parse_line(path, number, line, ("text",), known)) for number, line in numbered]
    return [
        beside(path, checked(row, number, rules), ("prompt", "source", *recordings)) for number, row in rows
    ]


def duration_rule(value: object) -> str | None:
    """A rule of `requests.checked`."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 600:
        return None
    return "must be above 0 and at most 600 seconds"


def _phones(value: object) -> str | None:
    is_list = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return None if is_list else "must be a list of texts"


def edit_rule(value: object) -> str | None:
    """A rule of `requests.checked`."""
    if isinstance(value, list) and len(value) == 2:
        first, last = value
        if _is_number(first) and _is_number(last) and 0 <= first < last < math.inf:
            return None
    return "must be two times in seconds, from and to"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_RULES = {
    "prompt": is_text,
    "prompt_text": is_text,
    "language": is_text,
    "phones": _phones,
    "duration_s": duration_rule,
    "source": is_text,
    "edit_s": edit_rule,
}
