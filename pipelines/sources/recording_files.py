"""Files that hold many recordings: tars, Parquet and Arrow files, tables and manifests, alone or several together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice, product
from pathlib import PurePosixPath

from catalog.command import UsageError
from catalog.reasons import Reason
from catalog.recordings import hashed
from pipelines.sources import columnar, filesystems, manifest, uris
from pipelines.sources.attributes import AUDIO, SPLITS
from pipelines.sources.interface import BrokenFile, Recording, identifier
from pipelines.sources.keys import KeySet
from pipelines.sources.manifest import manifest_recordings
from pipelines.sources.metadata import table_recordings
from pipelines.sources.transcripts import sidecar
from pipelines.sources.webdataset import tar_recordings

LISTS = (".psv", ".list", ".txt")
"""Endings of tables that are read where they are named, and not where they lie in a folder."""
TABLES = (".csv", ".tsv", *LISTS)
ENDINGS = (".tar", *columnar.ENDINGS, *TABLES, *manifest.ENDINGS)
_WINDOW = 1024
_ALTERNATIVES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class RecordingFile:
    """A file that holds recordings, or names them."""

    uri: str
    name: str
    """Path within the source: leads the ids."""
    split: str | None = None


@dataclass(frozen=True)
class FilesSource:
    """Recordings of several files, one file after the other."""

    uri: str
    files: tuple[RecordingFile, ...]

    def recordings(self) -> Iterator[Recording]:
        """Every recording on offer; raises UsageError for a file that is gone, or broken and the only one."""
        named = KeySet()
        several = len(self.files) > 1
        # Tables first: the files that they describe are not offered again.
        for file in sorted(self.files, key=lambda one: not _names_files(one)):
            entry = filesystems.stat(file.uri)
            if entry is None:
                raise UsageError(f"{uris.shown(file.uri)}: no such file")
            found = file_recordings(entry, file.name, file.split)
            if _names_files(file) and several:
                yield from _learned(found, named)
            elif not named.contains(hashed([file.uri]))[0]:
                yield from or_rejected(found, entry, file.name) if several else found


def or_rejected(recordings: Iterator[Recording], file: filesystems.Entry, name: str) -> Iterator[Recording]:
    """Recordings of a file of many; where it is damaged, a rejected recording stands for the rest of it."""
    try:
        yield from recordings
    except BrokenFile as error:
        yield Recording(
            identifier(name),
            file.uri,
            file.size_bytes,
            source_stat=file.source_stat,
            problem=Reason.UNREADABLE,
            detail=str(error),
        )


def _learned(recordings: Iterator[Recording], named: KeySet) -> Iterator[Recording]:
    while window := list(islice(recordings, _WINDOW)):
        named.add(hashed(one.uri for one in window))
        yield from window


def _names_files(file: RecordingFile) -> bool:
    return file.name.lower().endswith((*TABLES, *manifest.ENDINGS))


def file_recordings(entry: filesystems.Entry, name: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings that a file holds, names, or is."""
    lower = entry.name.lower()
    folder = name[: len(name) - len(entry.name)]
    if lower.endswith(".tar"):
        yield from tar_recordings(entry, name, split)
    elif lower.endswith(columnar.ENDINGS):
        yield from columnar.columnar_recordings(entry, name, split)
    elif lower.endswith(TABLES):
        yield from table_recordings(entry.uri, folder, split)
    elif lower.endswith(manifest.ENDINGS):
        yield from manifest_recordings(entry.uri, folder, split)
    else:
        text_uri = sidecar(entry.uri)
        yield Recording(
            identifier(name),
            entry.uri,
            entry.size_bytes,
            text_uri=text_uri,
            text_source="sidecar" if text_uri else None,
            split=SPLITS.get((split or "").lower()),
            source_stat=entry.source_stat,
        )


def is_pattern(location: str) -> bool:
    """True if a location names files by `*`, `?`, `[a-z]`, `{a,b}` or `{000..012}`."""
    return any(mark in location for mark in "*?[{")


def matching(location: str) -> FilesSource:
    """The files that a pattern names, in its order; raises UsageError when it names none."""
    files: dict[str, RecordingFile] = {}
    for one in _alternatives(location):
        folder, slash, last = one.rpartition("/")
        if not is_pattern(last):
            uri = uris.to_uri(one)
            files[uri] = RecordingFile(uri, PurePosixPath(one).name)
            continue
        if is_pattern(folder):
            raise UsageError(f"source {location!r}: * ? [ may stand in the last part of a path only")
        for entry in _directory(folder + slash, location):
            if not entry.is_directory and fnmatchcase(entry.name, last) and _may_hold(entry.name, last):
                files[entry.uri] = RecordingFile(entry.uri, entry.name)
    if not files:
        allowed = " ".join(sorted({*ENDINGS, *AUDIO}))
        raise UsageError(f"source {location!r} matches no file; it may name {allowed}")
    return FilesSource(uris.to_uri(location), tuple(files.values()))


def _directory(folder: str, location: str) -> Iterator[filesystems.Entry]:
    try:
        yield from filesystems.directory(uris.to_uri(folder or ".")).entries
    except OSError as error:
        raise UsageError(f"source {location!r}: {error.strerror or error}") from error


def _may_hold(name: str, pattern: str) -> bool:
    if name.lower().endswith(LISTS):  # a transcript, unless such files were asked for
        return pattern.lower().endswith(LISTS)
    return name.lower().endswith((*ENDINGS, *AUDIO))


def _alternatives(location: str) -> Iterator[str]:
    """Brace expansion: `{a,b}` and `{000..012}`, each number as wide as the first."""
    parts = _ALTERNATIVES.split(location)
    choices = [[part] if index % 2 == 0 else _choices(part) for index, part in enumerate(parts)]
    yield from map(partial(str.join, ""), product(*choices))


def _choices(inside: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if numbers is None:
        return inside.split(",")
    first, last = numbers[1], numbers[2]
    return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
