"""Tables of recordings: CSV, TSV, tables of pipes and lists, with or without a header (`table_dialect`). UTF-8 only.

Names with an audio ending are taken as they stand, once the first that exists has shown the folder: a table of
a million rows is read without a look at a million files, and a missing file is found when it is decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import PurePosixPath

from catalog.command import UsageError
from catalog.outward import unsigned
from catalog.reasons import Reason
from pipelines.sources import filesystems, uris
from pipelines.sources.attributes import AUDIO, attributes
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.members import open_file
from pipelines.sources.reading import current, size_text
from pipelines.sources.repeated import mark_repeated
from pipelines.sources.table_cells import TableLineError, table_rows
from pipelines.sources.table_dialect import Dialect, UnknownTableError, dialect_of
from pipelines.sources.transcripts import sidecar

_FOLDERS = ("", "wavs/", "clips/", "audio/")
"""Folders beside the table in which LJSpeech, Common Voice and others keep the files."""
_EXTENSIONS = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a")
_PATTERNS = [(folder, "") for folder in _FOLDERS] + [
    (folder, end) for end in _EXTENSIONS for folder in ("wavs/", "", "clips/", "audio/")
]
_FIRST_LINES = 100
_FIRST_CHARACTERS = 4 << 20


def table_recordings(uri: str, prefix: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings that the table at `uri` names; `prefix` leads from the source to the table's folder.

    A row with more cells than the table has columns is rejected. Raises UsageError naming the line and the rule.
    """
    finder = _Finder(uris.parent(uri))
    yield from mark_repeated(
        (line, _recording(line, cells, dialect, finder, prefix, split))
        for line, dialect, cells in _read(uri, finder)
    )


def describe_table(uri: str, examples: int = 3) -> list[str]:
    """Describe the understanding of the table at `uri`, with its first rows. Raises what `table_recordings` does."""
    finder = _Finder(uris.parent(uri))
    lines: list[str] = []
    for line, dialect, cells in islice(_read(uri, finder), examples):
        if not lines:
            lines.append(f"table {uris.shown(uri)}: {dialect.described()}")
        one = _recording(line, cells, dialect, finder, "", None)
        known = {"text": one.text, "speaker": one.speaker, "language": one.language}
        said = one.detail or ", ".join(f"{name} {value!r}" for name, value in known.items() if value)
        lines.append(f"  line {line}: {one.recording_id}: {said or 'no text'}")
    return lines


class _Finder:
    """Finds the files that a table names, remembering where it found the last."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._pattern: tuple[str, str] | None = None

    def exists(self, name: str) -> bool:
        """True if a name leads to a file; a name at an absolute place is looked for there."""
        if not name:
            return False
        entry = self.find(name)[2]
        if entry is None and (uris.is_uri(name) or name.startswith("/")):
            entry = filesystems.stat(uris.resolve(name, self.folder))
        return entry is not None and not entry.is_directory

    def find(self, name: str) -> tuple[str, str, filesystems.Entry | None]:
        """Path relative to the folder, URI, and the entry where a look was needed."""
        if uris.is_uri(name) or name.startswith("/"):
            return name, uris.resolve(name, self.folder), None
        if "\\" in name and self._find(name)[2] is None:  # written on Windows
            name = name.replace("\\", "/")
        return self._find(name)

    def _find(self, name: str) -> tuple[str, str, filesystems.Entry | None]:
        whole = PurePosixPath(name).suffix.lower() in AUDIO
        if self._pattern is not None and whole and not self._pattern[1] and "\\" not in name:
            return self._named(name, self._pattern)
        known = [self._pattern] if self._pattern is not None else []
        for pattern in [*known, *_PATTERNS]:
            relative, uri, _ = self._named(name, pattern)
            entry = filesystems.stat(uri)
            if entry is not None and not entry.is_directory:
                self._pattern = pattern
                return relative, uri, entry
        for pattern in () if whole else _PATTERNS:
            relative, uri, _ = self._named(name, pattern)
            entry = filesystems.alike(uri)
            if entry is not None and not entry.is_directory:
                return relative, entry.uri, entry
        return self._named(name, ("", ""))

    def _named(self, name: str, pattern: tuple[str, str]) -> tuple[str, str, None]:
        relative = f"{pattern[0]}{name}{pattern[1]}"
        return relative, uris.join(self.folder, relative), None


def _recording(
    line: int, cells: list[str], dialect: Dialect, finder: _Finder, prefix: str, split: str | None
) -> Recording:
    file = dialect.value(cells, "file") or ""
    relative, uri, entry = finder.find(file)
    described = attributes(
        {field: dialect.value(cells, field) for field in ("text", "speaker", "language", "split")}, split
    )
    problem = _fault(line, cells, dialect)
    text_uri = None
    if described["text"] is None and problem is None:
        named = dialect.value(cells, "text_file")
        text_uri = uris.resolve(named.replace("\\", "/"), finder.folder) if named else sidecar(uri)
    if text_uri:
        described["text_source"] = "sidecar"
    return Recording(
        recording_id=identifier(prefix + unsigned(relative)),
        uri=uri,
        size_bytes=entry.size_bytes if entry else None,
        text_uri=text_uri,
        source_stat=entry.source_stat if entry else None,
        problem=Reason.INVALID_ROW if problem else None,
        detail=problem,
        **described,
    )


def _fault(line: int, cells: list[str], dialect: Dialect) -> str | None:
    """Fault in the number of a row's cells; without the last, optional ones it is whole."""
    against = "the header" if dialect.header is not None else "the first rows"
    if len(cells) > dialect.width and any(cells[dialect.width :]):
        return f"line {line} has {len(cells)} fields, {against} {dialect.width}"
    least = 1 + max(min(dialect.columns[field]) for field in ("file", "text") if dialect.columns.get(field))
    if len(cells) < least:
        return f"line {line} has {len(cells)} fields, {against} {dialect.width}"
    return None


def _read(uri: str, finder: _Finder) -> Iterator[tuple[int, Dialect, list[str]]]:
    """Line number, dialect and cells of each row."""
    name = uris.shown(uri)
    try:
        with open_file(uri) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            lines = _lines(text)
            first = list(_first(lines))
            dialect = dialect_of([line for _, line in first], finder.exists)
            rest = chain(first, lines)
            headed = dialect.header is not None
            for line, cells in table_rows(
                rest, dialect.delimiter, dialect.quoted, _RowStart(dialect, finder)
            ):
                if headed:
                    headed = False
                    continue
                if not dialect.value(cells, "file"):
                    raise TableLineError(line, "names no file")
                yield line, dialect, cells
    except UnicodeDecodeError as error:
        bad = first_bad_line(uri)
        raise UsageError(f"{name}: line {bad} is not UTF-8; save the table as UTF-8") from error
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror or error}") from error
    except (TableLineError, UnknownTableError) as error:
        raise UsageError(f"{name}: {error}") from error


def _lines(text: io.TextIOWrapper) -> Iterator[tuple[int, str]]:
    number, most = 0, current().line_chars
    while line := text.readline(most):
        number += 1
        if "\0" in line or len(line) == most:
            rule = (
                "holds a NUL; save the table as UTF-8"
                if "\0" in line
                else f"is longer than {size_text(most)}"
            )
            raise TableLineError(number, rule)
        yield number, line.rstrip("\r\n")


def _first(lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    size = 0
    for number, line in islice(lines, _FIRST_LINES):
        yield number, line
        size += len(line)
        if size > _FIRST_CHARACTERS:
            return


class _RowStart:
    """True for a line that looks like a row of its own: as many cells as the table, the file's an audio file."""

    def __init__(self, dialect: Dialect, finder: _Finder) -> None:
        self._dialect, self._finder = dialect, finder

    def __call__(self, line: str) -> bool:
        cells = [cell.strip().strip('"') for cell in line.split(self._dialect.delimiter)]
        file = self._dialect.columns["file"][0]
        if len(cells) < max(2, self._dialect.width) or not cells[file]:
            return False
        return PurePosixPath(cells[file]).suffix.lower() in AUDIO or (
            len(cells[file]) < 200 and self._finder.exists(cells[file])
        )


def first_bad_line(uri: str) -> int:
    """The number of the first line that is not UTF-8, from 1."""
    with open_file(uri) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1
