"""Tables of recordings: `metadata.csv` with a header, or LJSpeech's `id|text|normalised text` without one.

With a header the delimiter is the one of `, | tab ;` that splits the first line into known names. Without one
the delimiter is `|` and quotes are text. UTF-8 only.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.sources import files
from pipelines.sources.interface import Recording

_NAMES = {
    "file": ("file", "file_name", "filename", "path", "audio", "wav", "id"),
    "text": ("normalized_text", "normalised_text", "normalized text", "normalised text", "text", "transcript",
             "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id"),
    "language": ("language", "lang", "locale"),
    "split": ("split",),
}  # fmt: skip
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
           "dev": "validation", "test": "validation"}  # fmt: skip
_EXTENSIONS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    file: str
    text: str | None
    speaker: str | None = None
    language: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class MetadataSource:
    """The recordings that one table names; other files beside it are not offered."""

    uri: str

    def recordings(self) -> Iterator[Recording]:
        """Named recordings, those that do not exist with a problem."""
        folder = self.uri.rpartition("/")[0]
        for row in read_rows(self.uri):
            yield to_recording(row, folder, prefix="")


def read_rows(uri: str) -> Iterator[Row]:
    """Lines of the table at `uri`, streamed; raises UsageError naming the line and the rule."""
    name = str(files.local_path(uri) or uri)
    try:
        with files.open_file(uri) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            delimiter, columns = _dialect(first.rstrip("\r\n"), name)
            if columns is None:
                yield from _rows(itertools.chain([first], text), delimiter, None, name)
            else:
                yield from _rows(text, delimiter, columns, name)
    except UnicodeDecodeError as error:
        line = _first_bad_line(uri)
        raise UsageError(f"{name}: line {line} is not UTF-8; save the table as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error


def to_recording(row: Row, folder: str, prefix: str) -> Recording:
    """The recording that `row` names relative to `folder`; `prefix` leads from the source to that folder."""
    found = find(row.file, folder)
    relative = found[0] if found else row.file
    uri = found[1].uri if found else files.join(folder, row.file)
    sidecar = files.sidecar(uri) if row.text is None and found else None
    return Recording(
        recording_id=identifier(prefix + relative),
        uri=uri,
        size_bytes=found[1].size_bytes if found else 0,
        text=row.text,
        text_uri=sidecar,
        text_source="given" if row.text else "sidecar" if sidecar else None,
        speaker=row.speaker,
        language=row.language,
        split=row.split,
        problem=None if found else Reason.UNREADABLE,
    )


def find(name: str, folder: str) -> tuple[str, files.Entry] | None:
    """The file that a table calls `name`: as it is, or in LJSpeech's way without folder and extension."""
    for relative in (name, *(f"{base}{name}{end}" for end in _EXTENSIONS for base in ("wavs/", ""))):
        uri = relative if files.is_uri(relative) else files.join(folder, relative)
        entry = files.stat(uri)
        if entry is not None and not entry.is_directory:
            return relative, entry
    return None


def identifier(relative: str) -> str:
    """A recording id of a relative path; bytes that are not UTF-8 are written as \\xNN."""
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _first_bad_line(uri: str) -> int:
    with files.open_file(uri) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _dialect(first: str, name: str) -> tuple[str, dict[str, int] | None]:
    """The delimiter and the column of each known name; no columns for a table without header."""
    for delimiter in ",|\t;":
        cells = [cell.strip().strip('"').lower() for cell in first.split(delimiter)]
        if any(cell in _NAMES["file"] for cell in cells):
            return delimiter, _columns(cells)
    if "|" in first:
        return "|", None
    allowed = ", ".join(_NAMES["file"])
    raise UsageError(f"{name}: line 1 has no file column (it is {first[:80]!r}); name it one of {allowed}")


def _columns(cells: Sequence[str]) -> dict[str, int]:
    found = {}
    for field, names in _NAMES.items():
        known = [cells.index(name) for name in names if name in cells]
        if known:
            found[field] = known[0]
    return found


def _rows(lines: Iterable[str], delimiter: str, columns: dict[str, int] | None, name: str) -> Iterator[Row]:
    headed = columns is not None
    # Without a header the table is LJSpeech's, where a quote is just a character.
    if headed:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    least = max(columns.values()) + 1 if columns else 2
    offset = 1 if headed else 0
    try:
        for cells in reader:
            if not cells:
                continue
            where = f"{name}: line {offset + reader.line_num}"
            if len(cells) < least:
                raise UsageError(f"{where} has {len(cells)} fields; it needs at least {least}")
            row = _headed(cells, columns) if columns else Row(cells[0], cells[-1] or cells[1] or None)
            if not row.file:
                raise UsageError(f"{where} names no file")
            yield row
    except csv.Error as error:
        raise UsageError(f"{name}: line {offset + reader.line_num} is not valid CSV: {error}") from error


def _headed(cells: Sequence[str], columns: dict[str, int]) -> Row:
    values = {field: cells[index].strip() or None for field, index in columns.items()}
    split = _SPLITS.get((values.get("split") or "").lower())
    return Row(values["file"] or "", values.get("text"), values.get("speaker"), values.get("language"), split)
