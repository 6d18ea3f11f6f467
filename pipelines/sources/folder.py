"""A folder of recordings, searched through all its sub-folders.

Every regular file is offered, whatever its name, except hidden ones and text (`IGNORED`). Tars, and Parquet and Arrow
files with an audio column, are read as what they hold. Where a folder has a `metadata.csv` or `metadata.jsonl`, its
rows come first and give texts and speakers; other files take the text beside them (`transcripts.TEXT_ENDINGS`).
Links to folders are followed, each folder is read once; datasets (folders with a Delta log) are left out.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from catalog.command import UsageError
from catalog.reasons import Reason
from catalog.recordings import hashed
from pipelines.sources import columnar, filesystems, uris
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.keys import KeySet
from pipelines.sources.recording_files import FilesSource, RecordingFile, file_recordings, or_rejected
from pipelines.sources.transcripts import sidecars

IGNORED = {".txt", ".lab", ".list", ".psv", ".csv", ".tsv", ".json", ".jsonl", ".md", ".textgrid"}
TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl", "metadata.jsonl.gz")
_WINDOW = 1024
_LOG = "_delta_log"
_OF_DATASETS = ("_", "split=")
"""Folders of a dataset that lies at the source itself."""


@dataclass(frozen=True)
class FolderSource:
    """Every file below `uri` that may be audio, in the order of names."""

    uri: str
    leave_out: str | None = None
    """URI of a folder that is not read: an output inside the source."""
    links: bool = True
    """Follow links; else each is a rejected recording, and no transcript."""

    def recordings(self) -> Iterator[Recording]:
        """Every recording on offer, folder by folder."""
        try:
            yield from self._walk(self.uri, "", _Named(), set())
        except OSError as error:
            name = uris.shown(self.uri)
            raise UsageError(f"{name}: {error.strerror or error}: {error.filename or ''}") from error

    def _walk(self, folder: str, prefix: str, named: _Named, linked: set[Path]) -> Iterator[Recording]:
        directory = filesystems.directory(folder)
        is_dataset = _LOG in directory.names
        if is_dataset and prefix:
            return
        hidden = (".", *_OF_DATASETS) if is_dataset else (".",)
        ignored = frozenset() if self.links else directory.links
        text_of = sidecars(name for name in directory.names if name not in ignored)
        tables = tables_among(directory.names)
        for name in tables:
            yield from self._table(uris.join(folder, name), prefix + name, named)
        for window in _windows(directory.entries):
            for entry, is_named in zip(window, named.names(window, directory.names), strict=True):
                if entry.name.startswith(hidden if entry.is_directory else "."):
                    continue
                if entry.name in ignored:
                    yield from _ignored(entry, prefix)
                elif entry.is_directory:
                    yield from self._below(entry.uri, f"{prefix}{entry.name}/", named, linked)
                elif (
                    Path(entry.name).suffix.lower() not in IGNORED
                    and not is_named
                    and entry.name not in tables
                ):
                    yield from _offered(entry, folder, identifier(prefix + entry.name), text_of(entry.name))

    def _below(self, folder: str, prefix: str, named: _Named, linked: set[Path]) -> Iterator[Recording]:
        """A sub-folder; one recording that is unavailable stands for what cannot be listed now."""
        if folder == self.leave_out or not self._is_new(folder, linked):
            return
        try:
            yield from self._walk(folder, prefix, named, linked)
        except OSError as error:
            name = identifier(prefix.rstrip("/"))
            detail = f"the folder cannot be read: {error.strerror or error}"
            yield Recording(name, folder, 0, problem=Reason.UNAVAILABLE, detail=detail)

    def _is_new(self, folder: str, linked: set[Path]) -> bool:
        """False for a link to a folder that is read under another name; `linked` learns the others."""
        path = uris.local_path(folder)
        root = uris.local_path(self.uri)
        if path is None or root is None:
            return True
        if not path.is_symlink() and not linked:
            return True
        real, inside = path.resolve(), root.resolve()
        if path.is_symlink() and (real.is_relative_to(inside) or inside.is_relative_to(real)):
            return False
        if not real.is_relative_to(inside):
            if real in linked:
                return False
            linked.add(real)
        return True

    def _table(self, table: str, name: str, named: _Named) -> Iterator[Recording]:
        """Rows of a folder's table; `named` learns them, so that the walk leaves them out."""
        found = _Named()
        rows = FilesSource(table, (RecordingFile(table, name),)).recordings()
        while window := list(itertools.islice(rows, _WINDOW)):
            found.add(window)
            already_named = named.exact.contains(hashed(one.uri for one in window))
            for recording, already in zip(window, already_named, strict=True):
                if not already:
                    yield recording
        named.update(found)


def tables_among(names: Sequence[str]) -> list[str]:
    """Those of a folder's names that are tables of it (`TABLES`, in any case), in the order they are read."""
    return sorted(
        (name for name in names if name.lower() in TABLES), key=lambda one: (TABLES.index(one.lower()), one)
    )


class _Named:
    """Files that tables name, by URI, and by how names compare where no exact match exists."""

    def __init__(self) -> None:
        self.exact, self._alike = KeySet(), KeySet()

    def add(self, recordings: Sequence[Recording]) -> None:
        self.exact.add(hashed(one.uri for one in recordings))
        self._alike.add(hashed(filesystems.folded(unquote(one.uri)) for one in recordings))

    def update(self, other: _Named) -> None:
        self.exact.update(other.exact)
        self._alike.update(other._alike)

    def names(self, entries: Sequence[filesystems.Entry], siblings: Sequence[str]) -> list[bool]:
        """True for each entry that a table names; of two that compare alike, only for that with the very name."""
        exact = self.exact.contains(hashed(one.uri for one in entries))
        alike = self._alike.contains(hashed(filesystems.folded(unquote(one.uri)) for one in entries))
        found: list[bool] = []
        counts: Counter[str] = Counter()
        for entry, is_exact, is_alike in zip(entries, exact.tolist(), alike.tolist(), strict=True):
            if is_alike and not is_exact:
                counts = counts or Counter(map(filesystems.folded, siblings))
                is_alike = counts[filesystems.folded(entry.name)] == 1
            found.append(is_exact or is_alike)
        return found


def _ignored(entry: filesystems.Entry, prefix: str) -> Iterator[Recording]:
    """Stands for a link that is not followed; of texts nobody asks."""
    if entry.is_directory or Path(entry.name).suffix.lower() not in IGNORED:
        detail = "is a link, which source.links ignores"
        yield Recording(
            identifier(prefix + entry.name), entry.uri, 0, problem=Reason.UNREADABLE, detail=detail
        )


def _offered(
    entry: filesystems.Entry, folder: str, recording_id: str, text: str | None
) -> Iterator[Recording]:
    if entry.name.lower().endswith((".tar", *columnar.ENDINGS)):
        try:
            yield from or_rejected(file_recordings(entry, recording_id), entry, recording_id)
        except columnar.NoAudioColumn:
            return
    else:
        yield Recording(
            recording_id=recording_id,
            uri=entry.uri,
            size_bytes=entry.size_bytes,
            text_uri=uris.join(folder, text) if text else None,
            text_source="sidecar" if text else None,
            source_stat=entry.source_stat,
        )


def _windows(entries: Iterator[filesystems.Entry]) -> Iterator[list[filesystems.Entry]]:
    while window := list(itertools.islice(entries, _WINDOW)):
        yield window
