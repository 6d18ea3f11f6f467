"""Recordings of a source that are not committed yet, cut into batches.

Everything is a stream. What is remembered of a recording that went by is eight bytes; files are looked at only where
their size is needed and unknown, or to see whether a committed one has changed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.command import JobError
from catalog.reasons import Reason
from catalog.recordings import Keys, hashed, numbers
from models.text.normalize import normalize_transcript
from pipelines.execution.ray_stream import RecordingBatch
from pipelines.prepare import file_stats
from pipelines.prepare.duplicates import Duplicates
from pipelines.prepare.known import Known, short
from pipelines.sources.interface import Recording, Source, to_table
from pipelines.sources.keys import KeySet
from pipelines.sources.reading import Reading, set_reading
from pipelines.sources.transcripts import TextError, read_transcript

_FIRST_BYTES = 256 * 1024
_LAST_BYTES = 1 << 20
_LEAST_BYTES = 16 * 1024
"""Least size that a recording counts as: opening a file costs, too."""
_UNKNOWN_BYTES = 256 * 1024
_WINDOW = 1024


@dataclass(frozen=True)
class Planned:
    """Counts of a source's recordings, and of the new ones among them."""

    recordings: int
    size_bytes: int
    """Of those whose size is known or can be estimated without a look at the file."""
    new_recordings: int
    unknown_sizes: int = 0
    """Recordings whose size only a look at the file would tell."""

    @property
    def on_offer(self) -> str:
        """Their sizes in words."""
        known = f"{self.size_bytes / 1e6:.1f} MB on offer"
        if not self.unknown_sizes:
            return known
        if self.unknown_sizes == self.recordings:
            return "sizes unknown until the files are read"
        return f"{known}, {self.unknown_sizes} of unknown size"


@dataclass(frozen=True)
class Listing:
    """A source seen against what is committed (`Known`, or rows of `recording_id, source_digest, source_stat`)."""

    source: Source
    prefix: str = ""
    """Leads every recording id, so that several sources fit into one dataset."""
    check: Literal["stat", "content", "none"] = "stat"
    """Detection of committed recordings that changed: by their bytes, which are read only where size or time of the
    file differ (`stat`), always (`content`) or never."""
    max_bytes: int = 8 << 20
    workers: int = 1
    changed: Literal["refuse", "redo"] = "refuse"
    """A changed recording ends the job, or is offered again."""
    duplicates: Literal["keep", "reject"] = "keep"
    """`reject`: a recording with the same bytes as an earlier one is rejected; reads through the source first."""
    reading: Reading = field(default_factory=Reading)
    only: frozenset[bytes] | None = None
    """Keys (`catalog.recordings.recording_key`) of the only recordings that are offered."""

    def is_empty(self) -> bool:
        """True if the source offers nothing; raises UsageError for a source that cannot be read."""
        return next(iter(self.source.recordings()), None) is None

    def any_new(self, committed: pa.Table | Known) -> bool:
        """True if there is anything to do; stops at the first recording that is not committed."""
        known = _known(committed)
        if any((known.find(window.ids, window.keys) < 0).any() for window in self._windows()):
            return True
        return self.changed == "redo" and any(True for _ in self._new(known))

    def count(self, committed: pa.Table | Known) -> Planned:
        """Count all that is offered, without a look at the files; changed recordings count as done."""
        known = _known(committed)
        recordings = size_bytes = new = unknown = 0
        for window in self._windows():
            recordings += len(window.recordings)
            size_bytes += sum(recording.size_bytes or 0 for recording in window.recordings)
            unknown += sum(one.size_bytes is None and one.problem is None for one in window.recordings)
            new += int((known.find(window.ids, window.keys) < 0).sum())
        return Planned(recordings, size_bytes, new, unknown)

    def batches(self, committed: pa.Table | Known) -> Iterator[RecordingBatch]:
        """Batches of recordings that are not committed, in the order of the source.

        The first are small, so that a small corpus still feeds every worker and the first commit comes soon; they
        grow to `max_bytes`, and shrink when the end is in sight, so that no worker is left with a large one alone.
        Raises JobError for a committed recording whose bytes have changed.
        """
        new = self._new(_known(committed))
        ahead: deque[Recording] = deque()
        left = index = 0
        while True:
            while left < 2 * self.workers * self.max_bytes and (one := next(new, None)) is not None:
                ahead.append(one)
                left += _size(one)
            if not ahead:
                return
            growing = _FIRST_BYTES * 1.5 ** min(index // self.workers, 64)
            limit = min(self.max_bytes, growing, max(left / (2 * self.workers), _LAST_BYTES))
            taken: list[Recording] = []
            size = 0
            while ahead and size < limit:
                taken.append(ahead.popleft())
                size += _size(taken[-1])
            left -= size
            yield _batch(index, taken)
            index += 1

    def corrected(self, committed: pa.Table | Known) -> int:
        """The number of committed recordings whose transcript is another one now."""
        known = _known(committed)
        with ThreadPoolExecutor(file_stats.THREADS) as pool:
            return sum(
                int(self._corrected(window, known.find(window.ids, window.keys), known, pool).sum())
                for window in self._windows()
            )

    def _corrected(
        self, window: _Window, places: npt.NDArray[np.int64], known: Known, pool: ThreadPoolExecutor
    ) -> npt.NDArray[np.bool_]:
        found = np.zeros(len(places), dtype=np.bool_)
        if known.texts is None or self.check == "none":
            return found
        done = [int(index) for index in np.flatnonzero(places >= 0) if known.texts[places[index]]]
        texts = pool.map(_current_text, [window.recordings[index] for index in done])
        for index, text in zip(done, texts, strict=True):
            found[index] = bool(text) and not known.same_text(places[index], str(text))
        return found

    def refuse_changed(self, committed: pa.Table | Known) -> None:
        """Raise JobError for a committed recording whose bytes have changed; `batches` does so on its way."""
        if self.check != "none" and self.changed == "refuse":
            known = _known(committed)
            with ThreadPoolExecutor(file_stats.THREADS) as pool:
                for window in self._windows():
                    self._changed(window, known.find(window.ids, window.keys), known, pool)

    def _new(self, known: Known) -> Iterator[Recording]:
        with ThreadPoolExecutor(file_stats.THREADS) as pool:
            duplicates = self._duplicates(known, pool) if self.duplicates == "reject" else None
            for window in self._windows():
                places = known.find(window.ids, window.keys)
                offered = (places < 0) | self._changed(window, places, known, pool)
                if self.changed == "redo":
                    offered |= self._corrected(window, places, known, pool)
                new = file_stats.sized([window.recordings[index] for index in np.flatnonzero(offered)], pool)
                yield from new if duplicates is None else duplicates.marked(new, pool)

    def _changed(
        self, window: _Window, places: npt.NDArray[np.int64], known: Known, pool: ThreadPoolExecutor
    ) -> npt.NDArray[np.bool_]:
        """True for recordings committed with other bytes than they have now (bool array). Raises JobError."""
        changed = np.zeros(len(places), dtype=np.bool_)
        if self.check == "none":
            return changed
        # Those that were never read (no digest) cannot have changed.
        done = [
            int(index)
            for index in np.flatnonzero(places >= 0)
            if window.recordings[index].problem is None and known.was_read(places[index])
        ]
        if self.check == "stat":
            stats = file_stats.stats([window.recordings[index] for index in done], pool)
            pairs = zip(done, stats, strict=True)
            done = [index for index, stat in pairs if not known.same_stat(places[index], stat)]
        digests = file_stats.digests([window.recordings[index] for index in done], pool)
        for index, digest in zip(done, digests, strict=True):
            committed = known.digest(places[index])
            # What is gone since cannot have changed.
            if digest is not None and short(digest) != committed:
                changed[index] = True
                if self.changed == "refuse":
                    raise JobError(_refusal(window.recordings[index], digest, committed))
        return changed

    def _duplicates(self, known: Known, pool: ThreadPoolExecutor) -> Duplicates:
        found = Duplicates()
        for window in self._everything():
            places = known.find(window.ids, window.keys)
            digests = [known.digest(at) if at >= 0 and known.was_read(at) else None for at in places]
            found.learn(window.recordings, digests, pool)
        return found

    @cached_property
    def _wanted(self) -> Keys:
        return np.sort(numbers(self.only or ()))

    def _windows(self) -> Iterator[_Window]:
        everything = self._everything()
        yield from everything if self.only is None else (one.within(self._wanted) for one in everything)

    def _everything(self) -> Iterator[_Window]:
        """Recordings under ids that are unique: a second one of the same id is rejected under `id#2`."""
        set_reading(self.reading)  # this may be a process of Ray's
        seen = KeySet()
        again: dict[str, int] = {}
        recordings = iter(self.source.recordings())
        while batch := list(islice(recordings, _WINDOW)):
            if self.prefix:
                batch = [replace(one, recording_id=f"{self.prefix}/{one.recording_id}") for one in batch]
            ids = [one.recording_id for one in batch]
            keys = hashed(ids)
            for index in np.flatnonzero(seen.add(keys)):
                batch[index] = _renamed(batch[index], again, seen)
                ids[index] = batch[index].recording_id
                keys[index] = hashed([ids[index]])[0]
            yield _Window(batch, ids, keys)


@dataclass(frozen=True)
class _Window:
    """Recordings that are looked up together."""

    recordings: list[Recording]
    ids: list[str]
    keys: Keys

    def within(self, wanted: Keys) -> _Window:
        kept = np.flatnonzero(np.isin(self.keys, wanted))
        return _Window([self.recordings[at] for at in kept], [self.ids[at] for at in kept], self.keys[kept])


def _renamed(recording: Recording, again: dict[str, int], seen: KeySet) -> Recording:
    """The next `id#N` that is free."""
    name = recording.recording_id
    while True:
        again[name] = again.get(name, 1) + 1
        renamed = f"{name}#{again[name]}"
        if not seen.add(hashed([renamed]))[0]:
            detail = recording.detail or f"the source offers {name} more than once; the first counts"
            return replace(recording, recording_id=renamed, problem=Reason.DUPLICATE_ID, detail=detail)


def _current_text(recording: Recording) -> str | None:
    """The transcript as it would be committed; None where it cannot be read."""
    try:
        if recording.text is None and recording.text_uri is not None:
            return normalize_transcript(read_transcript(recording.text_uri))
    except TextError:
        return None
    return None if recording.text is None else normalize_transcript(recording.text)


def _known(committed: pa.Table | Known) -> Known:
    return committed if isinstance(committed, Known) else Known.of(committed)


def _size(recording: Recording) -> int:
    size = _UNKNOWN_BYTES if recording.size_bytes is None else recording.size_bytes
    return max(size, _LEAST_BYTES) + len(recording.text or "")


def _batch(index: int, recordings: Sequence[Recording]) -> RecordingBatch:
    names = "\0".join(recording.recording_id for recording in recordings)
    return RecordingBatch(index, hashlib.sha256(names.encode()).hexdigest(), to_table(recordings))


def _refusal(recording: Recording, digest: str, committed: str) -> str:
    return (
        f"recording {recording.recording_id!r} has changed since it was committed (sha256 {digest[:12]}, "
        f"committed {committed[:12]}); do such recordings again with --changed redo, or give another output, "
        "or set source.name for another source"
    )
