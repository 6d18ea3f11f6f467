"""A folder of recordings, searched through all its sub-folders.

Every regular file is offered, whatever its name, except hidden ones and text (`IGNORED`). Where a folder holds
a `metadata.csv`, its rows come first and give texts and speakers; other files take the text of the `.txt` beside
them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from catalog.command import UsageError
from pipelines.sources import files
from pipelines.sources.interface import Recording, Source
from pipelines.sources.metadata import MetadataSource, identifier, read_rows, to_recording

IGNORED = {".txt", ".lab", ".csv", ".tsv", ".json", ".jsonl", ".md", ".textgrid"}
TABLE = "metadata.csv"


def open_source(location: str) -> Source:
    """The source behind a folder or a `metadata.csv`; raises UsageError when there is neither."""
    uri = files.to_uri(location)
    entry = files.stat(uri)
    if entry is None:
        raise UsageError(f"source {location!r} does not exist; give a folder or a metadata.csv")
    if entry.is_directory:
        return FolderSource(uri)
    if not entry.name.lower().endswith(".csv"):
        raise UsageError(f"source {location!r} is neither a folder nor a .csv table of recordings")
    return MetadataSource(uri)


@dataclass(frozen=True)
class FolderSource:
    """Every file below `uri` that may be audio, in the order of names."""

    uri: str

    def recordings(self) -> Iterator[Recording]:
        """Every recording on offer, folder by folder."""
        yield from self._walk(self.uri, "", set())

    def _walk(self, folder: str, prefix: str, named: set[bytes]) -> Iterator[Recording]:
        listing = files.entries(folder)
        names = {entry.name for entry in listing}
        if TABLE in names:
            yield from self._table(folder, prefix, named)
        for entry in listing:
            if entry.name.startswith("."):
                continue
            if entry.is_directory:
                yield from self._walk(entry.uri, f"{prefix}{entry.name}/", named)
            elif Path(entry.name).suffix.lower() not in IGNORED and _key(entry.uri) not in named:
                yield _offered(entry, folder, identifier(prefix + entry.name), names)

    def _table(self, folder: str, prefix: str, named: set[bytes]) -> Iterator[Recording]:
        """Rows of a folder's table; `named` learns them, so that the walk leaves them out."""
        already = frozenset(named)
        for row in read_rows(f"{folder}/{TABLE}"):
            recording = to_recording(row, folder, prefix)
            key = _key(recording.uri)
            if key not in already:
                named.add(key)
                yield recording


def _offered(entry: files.Entry, folder: str, recording_id: str, names: set[str]) -> Recording:
    sidecar = f"{Path(entry.name).stem}.txt"
    found = sidecar in names
    return Recording(
        recording_id=recording_id,
        uri=entry.uri,
        size_bytes=entry.size_bytes,
        text_uri=files.join(folder, sidecar) if found else None,
        text_source="sidecar" if found else None,
    )


def _key(uri: str) -> bytes:
    """Eight bytes for a URI: a set of these stays small for a million recordings."""
    return hashlib.blake2b(uri.encode(), digest_size=8).digest()
