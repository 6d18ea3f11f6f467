"""What is left to do of a source: recordings that are not committed yet, cut into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from catalog.command import JobError
from catalog.reasons import Reason
from pipelines.sources import files
from pipelines.sources.interface import Recording, Source, to_table

_FIRST_BYTES = 256 * 1024
_LEAST_BYTES = 16 * 1024
"""What the smallest recording counts: opening a file costs, too."""
_WINDOW = 1024


@dataclass(frozen=True)
class Batch:
    """Whole recordings that travel together."""

    index: int
    key: str
    """Digest of the ids: a batch that is made again must be the same."""
    rows: pa.Table


@dataclass(frozen=True)
class Planned:
    """What a source offers and what of it is new."""

    recordings: int
    size_bytes: int
    new_recordings: int


@dataclass(frozen=True)
class Listing:
    """A source seen against what is committed."""

    source: Source
    prefix: str = ""
    """Leads every recording id, so that several sources fit into one dataset."""
    check: Literal["content", "none"] = "content"
    """Whether recordings that are already committed are read again to see that they did not change."""
    max_bytes: int = 8 << 20
    workers: int = 1

    def plan(self, committed: pa.Table) -> Planned:
        """Count; raises UsageError for a table of recordings that cannot be read."""
        ids = committed["recording_id"].combine_chunks()
        recordings = size_bytes = new = 0
        # Wide windows: every is_in builds its hash table of the committed ids anew.
        for window in _windows(self._named(), 64 * _WINDOW):
            offered = pa.array([recording.recording_id for recording in window], pa.string())
            recordings += len(window)
            size_bytes += sum(recording.size_bytes for recording in window)
            new += len(window) - (pc.sum(pc.is_in(offered, value_set=ids)).as_py() or 0)
        return Planned(recordings, size_bytes, new)

    def batches(self, committed: pa.Table) -> Iterator[Batch]:
        """Batches of recordings whose ids are not in `committed` (`recording_id, source_digest`).

        The first are small, so that a small corpus still feeds every worker and the first commit comes soon; they
        grow to `max_bytes`. Raises JobError for a committed recording whose bytes have changed.
        """
        pending: list[Recording] = []
        index = size = 0
        for recording in self._new(_digests(committed)):
            pending.append(recording)
            size += max(recording.size_bytes, _LEAST_BYTES)
            if size >= min(self.max_bytes, _FIRST_BYTES * 1.5 ** (index // self.workers)):
                yield _batch(index, pending)
                pending, index, size = [], index + 1, 0
        if pending:
            yield _batch(index, pending)

    def refuse_changed(self, committed: pa.Table) -> None:
        """Raise JobError for a committed recording whose bytes have changed; `batches` does so on its way."""
        if self.check == "content":
            for _ in self._new(_digests(committed)):
                pass

    def _new(self, committed: dict[bytes, str]) -> Iterator[Recording]:
        with ThreadPoolExecutor(4) as pool:
            for window in _windows(self._named(), _WINDOW):
                done = [one for one in window if _key(one.recording_id) in committed]
                if self.check == "content":
                    _refuse_changed(done, committed, pool)
                yield from (one for one in window if _key(one.recording_id) not in committed)

    def _named(self) -> Iterator[Recording]:
        """Recordings under ids that are unique: a second one of the same id is rejected under `id#2`."""
        seen: set[bytes] = set()
        again: dict[bytes, int] = {}
        for recording in self.source.recordings():
            recording_id = (
                f"{self.prefix}/{recording.recording_id}" if self.prefix else recording.recording_id
            )
            key = _key(recording_id)
            if key in seen:
                again[key] = again.get(key, 1) + 1
                name = f"{recording_id}#{again[key]}"
                yield replace(recording, recording_id=name, problem=Reason.DUPLICATE_ID)
            else:
                seen.add(key)
                yield replace(recording, recording_id=recording_id)


def _windows(recordings: Iterator[Recording], size: int) -> Iterator[list[Recording]]:
    while window := list(islice(recordings, size)):
        yield window


def _batch(index: int, recordings: Sequence[Recording]) -> Batch:
    names = "\0".join(recording.recording_id for recording in recordings)
    return Batch(index, hashlib.sha256(names.encode()).hexdigest(), to_table(recordings))


def _key(recording_id: str) -> bytes:
    """Eight bytes an id: sets of these stay small for a million recordings."""
    return hashlib.blake2b(recording_id.encode(), digest_size=8).digest()


def _digests(committed: pa.Table) -> dict[bytes, str]:
    found: dict[bytes, str] = {}
    for part in committed.to_batches():
        ids, digests = (part[name].to_pylist() for name in ("recording_id", "source_digest"))
        found.update((_key(one), digest or "") for one, digest in zip(ids, digests, strict=True))
    return found


def _refuse_changed(done: Iterable[Recording], committed: dict[bytes, str], pool: ThreadPoolExecutor) -> None:
    """Recordings that were never read (no digest) and those that are gone since cannot have changed."""
    read = [one for one in done if one.problem is None and committed[_key(one.recording_id)]]
    for recording, digest in zip(read, pool.map(_sha256, read), strict=True):
        known = committed[_key(recording.recording_id)]
        if digest != known:
            raise JobError(
                f"recording {recording.recording_id!r} has changed since it was committed (sha256 {digest[:12]}, "
                f"committed {known[:12]}); give another output, set source.name for another source, "
                "or retry it by its reason if it was rejected"
            )


def _sha256(recording: Recording) -> str:
    with files.open_file(recording.uri) as file:
        opened: Any = file
        return hashlib.file_digest(opened, "sha256").hexdigest()
