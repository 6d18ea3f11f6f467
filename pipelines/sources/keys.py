"""Eight bytes for an id, and sets of millions of them in little memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]


def recording_key(recording_id: str) -> bytes:
    """Eight bytes of BLAKE2b: two of a million ids share one with a probability of 3e-8."""
    return hashlib.blake2b(recording_id.encode(), digest_size=8).digest()


def keys_of(names: Iterable[str]) -> Keys:
    """The keys of names as numbers, in the order of the names."""
    return np.frombuffer(b"".join(map(recording_key, names)), dtype=np.uint64)


class KeySet:
    """Keys as sorted runs, each at least twice as long as the next: nine bytes or so a key, and adding is cheap."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of `keys` were added before."""
        found = np.zeros(len(keys), dtype=np.bool_)
        for run in self._runs:
            at = np.searchsorted(run, keys)
            found |= run[np.minimum(at, len(run) - 1)] == keys
        return found

    def add(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Add `keys`; returns which of them were there already, added before or earlier in `keys`."""
        again = np.ones(len(keys), dtype=np.bool_)
        again[np.unique(keys, return_index=True)[1]] = False
        again |= self.contains(keys)
        fresh = np.sort(keys[~again])
        if len(fresh):
            self._runs.append(fresh)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            last = self._runs.pop()
            # A stable sort of integers is a radix sort, or merges the two runs.
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")
        return again

    def update(self, other: KeySet) -> None:
        """Add the keys of another set."""
        for run in other._runs:
            self.add(run)
