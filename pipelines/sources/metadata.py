"""Tables of recordings: `metadata.csv` with a header, or LJSpeech's `id|text|normalised text` without one.

With a header the delimiter is the one of `, | tab ;` that splits the first line into known names. Without one
the delimiter is `|`. Quotes are text there and between tabs (Common Voice). UTF-8 only.

Names with an audio ending are taken as they stand, once the first that exists has told in which folder: a table of
a million rows is read without a look at a million files, and a missing file is found when it is decoded.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from catalog.command import UsageError
from pipelines.sources import filesystems, uris
from pipelines.sources.attributes import AUDIO, NAMES, PATHS, attributes
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.members import open_file
from pipelines.sources.transcripts import sidecar

_FOLDERS = ("", "wavs/", "clips/", "audio/")
"""Folders beside the table in which LJSpeech, Common Voice and others keep the files."""
_EXTENSIONS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
_PATTERNS = [(folder, "") for folder in _FOLDERS] + [
    (folder, end) for end in _EXTENSIONS for folder in ("wavs/", "", "clips/", "audio/")
]


@dataclass(frozen=True)
class MetadataSource:
    """The recordings that one table names; other files beside it are not offered."""

    uri: str

    def recordings(self) -> Iterator[Recording]:
        """Named recordings, in the order of the table."""
        yield from table_recordings(self.uri, prefix="")


def table_recordings(uri: str, prefix: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings that the table at `uri` names; `prefix` leads from the source to the table's folder.

    Raises UsageError naming the line and the rule.
    """
    finder = _Finder(uris.parent(uri))
    for row in _read(uri):
        yield _recording(row, finder, prefix, split)


@dataclass(frozen=True)
class _Row:
    file: str
    values: dict[str, str | None]


class _Finder:
    """Finds the files that a table names, remembering where it found the last."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._pattern: tuple[str, str] | None = None

    def find(self, name: str) -> tuple[str, str, filesystems.Entry | None]:
        """Path relative to the folder, URI, and the entry where a look was needed."""
        whole = PurePosixPath(name).suffix.lower() in AUDIO
        if uris.is_uri(name) or name.startswith("/"):
            return name, uris.resolve(name, self._folder), None
        if self._pattern is not None and whole and not self._pattern[1]:
            return self._named(name, self._pattern)
        known = [self._pattern] if self._pattern is not None else []
        for pattern in [*known, *_PATTERNS]:
            relative, uri, _ = self._named(name, pattern)
            entry = filesystems.stat(uri)
            if entry is not None and not entry.is_directory:
                self._pattern = pattern
                return relative, uri, entry
        return self._named(name, ("", ""))

    def _named(self, name: str, pattern: tuple[str, str]) -> tuple[str, str, None]:
        relative = f"{pattern[0]}{name}{pattern[1]}"
        return relative, uris.join(self._folder, relative), None


def _recording(row: _Row, finder: _Finder, prefix: str, split: str | None) -> Recording:
    relative, uri, entry = finder.find(row.file)
    described = attributes(row.values, split)
    text_uri = sidecar(uri) if described["text"] is None else None
    if text_uri:
        described["text_source"] = "sidecar"
    return Recording(
        recording_id=identifier(prefix + relative),
        uri=uri,
        size_bytes=entry.size_bytes if entry else None,
        text_uri=text_uri,
        source_stat=entry.source_stat if entry else None,
        **described,
    )


def _read(uri: str) -> Iterator[_Row]:
    name = uris.shown(uri)
    try:
        with open_file(uri) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            first = text.readline()
            delimiter, columns = _dialect(first.rstrip("\r\n"), name)
            if columns is None:
                yield from _rows(itertools.chain([first], text), delimiter, None, name)
            else:
                yield from _rows(text, delimiter, columns, name)
    except UnicodeDecodeError as error:
        line = first_bad_line(uri)
        raise UsageError(f"{name}: line {line} is not UTF-8; save the table as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error


def first_bad_line(uri: str) -> int:
    """The number of the first line that is not UTF-8, from 1."""
    with open_file(uri) as file:
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
        if any(cell in PATHS for cell in cells):
            return delimiter, _columns(cells)
    if "|" in first:
        return "|", None
    allowed = ", ".join(PATHS)
    raise UsageError(f"{name}: line 1 has no file column (it is {first[:80]!r}); name it one of {allowed}")


def _columns(cells: Sequence[str]) -> dict[str, int]:
    found = {}
    for field, names in (NAMES | {"file": PATHS}).items():
        known = [cells.index(name) for name in names if name in cells]
        if known:
            found[field] = known[0]
    return found


def _rows(lines: Iterable[str], delimiter: str, columns: dict[str, int] | None, name: str) -> Iterator[_Row]:
    headed = columns is not None
    if headed and delimiter != "\t":
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
            row = _headed(cells, columns) if columns else _Row(cells[0], {"text": cells[-1] or cells[1]})
            if not row.file:
                raise UsageError(f"{where} names no file")
            yield row
    except csv.Error as error:
        raise UsageError(f"{name}: line {offset + reader.line_num} is not valid CSV: {error}") from error


def _headed(cells: Sequence[str], columns: dict[str, int]) -> _Row:
    values: dict[str, str | None] = {
        field: cells[index].strip() for field, index in columns.items() if field != "file"
    }
    return _Row(cells[columns["file"]].strip(), values)
