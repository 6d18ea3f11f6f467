"""Where recordings come from: folders, tables, manifests, archives, listed lazily and in a stable order."""

from __future__ import annotations

from pipelines.sources.interface import Source

KINDS = (
    "a folder, metadata.csv, manifest.jsonl, .tar, .parquet or .arrow file, a pattern of those, or hf:NAME; "
    "local or on an object store"
)


def open_source(location: str) -> Source:
    """The source behind a location, one of `KINDS`; raises UsageError when there is none."""
    from catalog.command import UsageError
    from pipelines.sources import files
    from pipelines.sources.folder import FolderSource
    from pipelines.sources.huggingface import PREFIX, is_saved, open_hugging_face
    from pipelines.sources.shards import ENDINGS, Shard, ShardsSource, is_pattern, matching

    if location.startswith(PREFIX) and not location.startswith("hf://"):
        return open_hugging_face(location)
    uri = files.to_uri(location)
    try:
        entry = files.stat(uri)
    except OSError as error:
        raise UsageError(f"source {location!r} cannot be reached: {' '.join(str(error).split())}") from error
    if entry is None:
        if is_pattern(location):
            return matching(location)
        raise UsageError(f"source {location!r} does not exist; give {KINDS}")
    if entry.is_directory:
        path = files.local_path(uri)
        return open_hugging_face(f"{PREFIX}{path}") if path and is_saved(path) else FolderSource(uri)
    if not entry.name.lower().endswith(ENDINGS):
        hint = (
            "; unpack it"
            if entry.name.lower().endswith((".gz", ".tgz", ".zip", ".bz2", ".xz", ".zst"))
            else ""
        )
        raise UsageError(f"source {location!r} is not a source of recordings{hint}; give {KINDS}")
    return ShardsSource(uri, (Shard(uri, entry.name),))
