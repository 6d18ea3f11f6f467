"""A folder of recordings, searched through all its sub-folders.

Every regular file is offered, whatever its name, except hidden ones and text (`IGNORED`). Tars, and Parquet and Arrow
files with an audio column, are read as what they hold. Where a folder has a `metadata.csv` or `metadata.jsonl`, its
rows come first and give texts and speakers; other files take the text of the `.txt` beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catalog.command import UsageError
from catalog.recordings import hashed
from pipelines.sources import columnar, filesystems, uris
from pipelines.sources.interface import Recording, identifier
from pipelines.sources.keys import KeySet
from pipelines.sources.recording_files import FilesSource, RecordingFile, file_recordings, or_rejected

IGNORED = {".txt", ".lab", ".csv", ".tsv", ".json", ".jsonl", ".md", ".textgrid"}
TABLES = ("metadata.csv", "metadata.jsonl")
_WINDOW = 1024


@dataclass(frozen=True)
class FolderSource:
    """Every file below `uri` that may be audio, in the order of names."""

    uri: str

    def recordings(self) -> Iterator[Recording]:
        """Every recording on offer, folder by folder."""
        try:
            yield from self._walk(self.uri, "", KeySet())
        except OSError as error:
            name = uris.shown(self.uri)
            raise UsageError(f"{name}: {error.strerror or error}: {error.filename or ''}") from error

    def _walk(self, folder: str, prefix: str, named: KeySet) -> Iterator[Recording]:
        directory = filesystems.directory(folder)
        texts = {name for name in directory.names if name.endswith(".txt")}
        for name in TABLES:
            if name in directory.names:
                yield from self._table(uris.join(folder, name), prefix + name, named)
        for window in _windows(directory.entries):
            for entry, is_named in zip(
                window, named.contains(hashed(one.uri for one in window)), strict=True
            ):
                if entry.name.startswith("."):
                    continue
                if entry.is_directory:
                    yield from self._walk(entry.uri, f"{prefix}{entry.name}/", named)
                elif Path(entry.name).suffix.lower() not in IGNORED and not is_named:
                    yield from _offered(entry, folder, identifier(prefix + entry.name), texts)

    def _table(self, table: str, name: str, named: KeySet) -> Iterator[Recording]:
        """Rows of a folder's table; `named` learns them, so that the walk leaves them out."""
        found = KeySet()
        rows = FilesSource(table, (RecordingFile(table, name),)).recordings()
        while window := list(itertools.islice(rows, _WINDOW)):
            keys = hashed(one.uri for one in window)
            found.add(keys)
            for recording, already in zip(window, named.contains(keys), strict=True):
                if not already:
                    yield recording
        named.update(found)


def _offered(
    entry: filesystems.Entry, folder: str, recording_id: str, texts: set[str]
) -> Iterator[Recording]:
    if entry.name.lower().endswith((".tar", *columnar.ENDINGS)):
        try:
            yield from or_rejected(file_recordings(entry, recording_id), entry, recording_id)
        except columnar.NoAudioColumn:
            return
    else:
        sidecar = f"{Path(entry.name).stem}.txt"
        found = sidecar in texts
        yield Recording(
            recording_id=recording_id,
            uri=entry.uri,
            size_bytes=entry.size_bytes,
            text_uri=uris.join(folder, sidecar) if found else None,
            text_source="sidecar" if found else None,
            source_stat=entry.source_stat,
        )


def _windows(entries: Iterator[filesystems.Entry]) -> Iterator[list[filesystems.Entry]]:
    while window := list(itertools.islice(entries, _WINDOW)):
        yield window
