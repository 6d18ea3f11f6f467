"""Sets of millions of names in little memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from catalog.recordings import Keys


class KeySet:
    """Keys as sorted runs, each at least twice as long as the next: nine bytes or so a key, and adding is cheap."""

    def __init__(self) -> None:
        self._runs: list[Keys] = []

    def contains(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """True for each of `keys` that was added before."""
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
