"""Recordings with the same bytes: the first in the order of the source is kept, unless a later one is committed.

Only recordings whose size occurs more than once are read. What is committed is not read again.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from catalog.reasons import Reason
from catalog.recordings import hashed
from pipelines.prepare import file_stats
from pipelines.prepare.known import short
from pipelines.sources.interface import Recording
from pipelines.sources.keys import KeySet


class Duplicates:
    """Learns the whole source, then marks what is new of it."""

    def __init__(self) -> None:
        self._sizes: list[npt.NDArray[np.int64]] = []
        self._seen = KeySet()

    def learn(
        self, recordings: Sequence[Recording], committed: Sequence[str | None], pool: ThreadPoolExecutor
    ) -> None:
        """Take in recordings with their committed digests, where they have one; all of them before `marked`."""
        self._sizes.append(np.array(file_stats.exact_sizes(recordings, pool), dtype=np.int64))
        pairs = zip(recordings, committed, strict=True)
        self._seen.add(hashed(_content(one, digest) for one, digest in pairs if digest is not None))

    def marked(self, recordings: Sequence[Recording], pool: ThreadPoolExecutor) -> list[Recording]:
        """The recordings in their order, those with bytes seen before as `duplicate_audio`."""
        marked = list(recordings)
        sizes = np.array(file_stats.exact_sizes(recordings, pool), dtype=np.int64)
        alike = np.flatnonzero(np.isin(sizes, self._repeated)).tolist()
        suspects = [index for index in alike if recordings[index].problem is None]
        found = file_stats.digests([recordings[index] for index in suspects], pool)
        pairs = [(index, digest) for index, digest in zip(suspects, found, strict=True) if digest is not None]
        again = self._seen.add(hashed(_content(recordings[index], short(digest)) for index, digest in pairs))
        for (index, _), is_again in zip(pairs, again, strict=True):
            if is_again:
                marked[index] = replace(marked[index], problem=Reason.DUPLICATE_AUDIO)
        return marked

    @cached_property
    def _repeated(self) -> npt.NDArray[np.int64]:
        sizes, counts = np.unique(np.concatenate(self._sizes or [np.empty(0, np.int64)]), return_counts=True)
        self._sizes = []
        return sizes[(counts > 1) & (sizes >= 0)]


def _content(recording: Recording, digest: str) -> str:
    """Names bytes, or a segment of them."""
    return f"{digest}#{recording.start_s},{recording.stop_s}"
