"""A location as people write it -> the source of recordings behind it."""

from __future__ import annotations

from catalog.command import UsageError
from pipelines.sources import filesystems, folder, uris
from pipelines.sources.folder import FolderSource
from pipelines.sources.huggingface import PREFIX, is_saved, open_hugging_face
from pipelines.sources.interface import Source
from pipelines.sources.metadata import describe_table
from pipelines.sources.recording_files import (
    ENDINGS,
    TABLES,
    FilesSource,
    RecordingFile,
    is_pattern,
    matching,
)

KINDS = (
    "a folder, metadata.csv, manifest.jsonl, .tar, .parquet or .arrow file, a pattern of those, or hf:NAME; "
    "local or on an object store"
)
_PACKED = (".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst")


def described_tables(source: Source) -> list[str]:
    """Descriptions of the tables that a source reads, with their first rows."""
    files: list[str] = []
    if isinstance(source, FolderSource):
        tables = folder.tables_among(filesystems.directory(source.uri).names)
        files = [uris.join(source.uri, name) for name in tables if name.lower().endswith(TABLES)]
    elif isinstance(source, FilesSource):
        files = [one.uri for one in source.files if one.name.lower().endswith(TABLES)]
    return [line for uri in files for line in describe_table(uri)]


def open_source(location: str) -> Source:
    """The source behind a location, one of `KINDS`; raises UsageError when there is none."""
    if location.startswith(PREFIX) and not location.startswith("hf://"):
        return open_hugging_face(location)
    uri = uris.to_uri(location)
    try:
        entry = filesystems.stat(uri)
    except OSError as error:
        raise UsageError(f"source {location!r} cannot be reached: {' '.join(str(error).split())}") from error
    if entry is None:
        if is_pattern(location):
            return matching(location)
        raise UsageError(f"source {location!r} does not exist; give {KINDS}")
    if entry.is_directory:
        path = uris.local_path(uri)
        return open_hugging_face(f"{PREFIX}{path}") if path and is_saved(path) else FolderSource(uri)
    if not entry.name.lower().endswith(ENDINGS):
        hint = "; unpack it" if entry.name.lower().endswith(_PACKED) else ""
        raise UsageError(f"source {location!r} is not a source of recordings{hint}; give {KINDS}")
    return FilesSource(uri, (RecordingFile(uri, entry.name),))
