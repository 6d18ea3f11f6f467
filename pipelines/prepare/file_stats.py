"""Reads size, modification time and digest of many files in parallel: on a network they mostly wait."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar, cast

from pipelines.sources import filesystems
from pipelines.sources.interface import Recording
from pipelines.sources.members import open_file

THREADS = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def digests(recordings: Sequence[Recording], pool: ThreadPoolExecutor) -> list[str | None]:
    """sha256 (hex) of each recording's bytes; None where they cannot be read."""
    # Neighbours in a container are read by one thread: a row group is read forwards.
    together = 256 if any("#" in one.uri for one in recordings[:1]) else 1
    return _mapped(pool, _digest, recordings, together)


def stats(recordings: Sequence[Recording], pool: ThreadPoolExecutor) -> list[str | None]:
    """`bytes:nanoseconds` of each recording's file; None for one that is gone."""
    return _mapped(pool, lambda one: one.source_stat or filesystems.stat_of(one.uri), recordings, 32)


def sized(recordings: Sequence[Recording], pool: ThreadPoolExecutor) -> list[Recording]:
    """The recordings with sizes where none was known, and with the file where only another spelling exists."""
    unknown = [
        index
        for index, one in enumerate(recordings)
        if (one.size_bytes is None or (one.estimated and "#" not in one.uri)) and one.problem is None
    ]
    found = _mapped(pool, _sized, [recordings[index] for index in unknown], 32)
    result = list(recordings)
    for index, recording in zip(unknown, found, strict=True):
        result[index] = recording
    return result


def exact_sizes(recordings: Sequence[Recording], pool: ThreadPoolExecutor) -> list[int]:
    """Bytes of each recording; -1 for one that is gone. Those of a column of audio are read for it."""
    return _mapped(pool, _exact_size, recordings, 32)


def _mapped(
    pool: ThreadPoolExecutor, function: Callable[[_Item], _Result], items: Sequence[_Item], together: int
) -> list[_Result]:
    """Results in the order of `items`; a thread takes `together` of them at a time."""
    parts = [items[at : at + together] for at in range(0, len(items), together)]
    return [one for part in pool.map(lambda part: [function(item) for item in part], parts) for one in part]


def _digest(recording: Recording) -> str | None:
    try:
        with open_file(recording.uri) as file:
            return hashlib.file_digest(cast("io.BytesIO", file), "sha256").hexdigest()
    except OSError:
        return None


def _sized(recording: Recording) -> Recording:
    try:
        entry = filesystems.stat(recording.uri)
        if entry is None and (entry := filesystems.alike(recording.uri)) is not None:
            recording = replace(recording, uri=entry.uri)
    except OSError:
        entry = None
    if entry is None or recording.size_bytes is not None:
        return recording
    return replace(recording, size_bytes=entry.size_bytes, source_stat=entry.source_stat)


def _exact_size(recording: Recording) -> int:
    if recording.size_bytes is not None and not recording.estimated:
        return recording.size_bytes
    try:
        if "#" in recording.uri:
            with open_file(recording.uri) as file:
                return file.seek(0, io.SEEK_END)
        entry = filesystems.stat(recording.uri)
    except OSError:
        return -1
    return entry.size_bytes if entry else -1
