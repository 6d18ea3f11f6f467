"""Companions of a row: other rows of its group, such as utterances of the same speaker to take a prompt from.

They follow from the row's own seed, so neither the batch nor the rank changes them.

Shape suffixes: N rows, G groups, n requested rows, K companions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainers.draws import mix
from trainers.plan import BoolArray, IntArray


class Companions:
    """The groups of a store, and the choice among their members."""

    def __init__(
        self, groups_N: npt.NDArray[np.int32], eligible_N: BoolArray, origins_N: IntArray | None = None
    ) -> None:
        """`groups_N`: a number for each row's group, negative for none. Only eligible rows are companions.

        `origins_N`: the row that each row is derived from, or itself, or -1. Derived rows are never companions, and
        have those that their origin has: not the origin itself, whose speech is theirs.
        """
        if origins_N is not None:
            eligible_N = eligible_N & (origins_N == np.arange(len(origins_N)))
        members = np.flatnonzero(eligible_N & (groups_N >= 0))
        members = members[np.argsort(groups_N[members], kind="stable")]
        self.groups_N = groups_N
        self.members_N = members.astype(np.uint32)
        self.bounds_G = np.append(0, np.cumsum(np.bincount(groups_N[members])))
        self.places_N = np.zeros(len(groups_N), dtype=np.uint32)
        self.places_N[members] = np.arange(len(members), dtype=np.uint32)
        self.origins_N = origins_N
        if origins_N is not None:
            self.places_N = self.places_N[np.maximum(origins_N, 0)]

    def enough(self, count: int) -> BoolArray:
        """The eligible rows (N,) that have at least `count` others in their group."""
        large_G = np.diff(self.bounds_G) > count
        found_N = np.zeros(len(self.groups_N), dtype=np.bool_)
        found_N[self.members_N] = large_G[self.groups_N[self.members_N]]
        if self.origins_N is None:
            return found_N
        return found_N[self.origins_N] & (self.origins_N >= 0)

    def choose(self, rows_n: IntArray, seeds_n: npt.NDArray[np.uint64], count: int) -> IntArray:
        """`count` companions (n, K) of each row, none of them the row itself: distinct ones, or in smaller groups all.

        Rows must be eligible and have another one in their group.
        """
        groups_n = self.groups_N[rows_n]
        first_n = self.bounds_G[groups_n]
        size_n = self.bounds_G[groups_n + 1] - first_n
        own_n = self.places_N[rows_n] - first_n
        steps_nK = _distinct(size_n - 1, lambda draw: mix(seeds_n, draw + 1), count)
        places_nK = first_n[:, None] + (own_n[:, None] + 1 + steps_nK) % size_n[:, None]
        chosen_nK: IntArray = self.members_N[places_nK].astype(np.int64)
        return chosen_nK


def _distinct(sizes_n: IntArray, drawn: Callable[[int], npt.NDArray[np.uint64]], count: int) -> IntArray:
    """`count` numbers (n, K) below each size, in the order they were drawn: distinct until there are no more, then the
    same again."""
    found: list[IntArray] = []
    for draw in range(count):
        # A number among those that are left, then moved past the ones that are taken, from the smallest on.
        pick_n = (drawn(draw) % np.maximum(sizes_n - draw, 1).astype(np.uint64)).astype(np.int64)
        for taken_n in np.sort(np.array(found), axis=0):
            pick_n += pick_n >= taken_n
        for before in range(draw):
            pick_n = np.where(sizes_n == draw - before, found[before], pick_n)
        found.append(pick_n)
    return np.stack(found, axis=1) if found else np.zeros((len(sizes_n), 0), dtype=np.int64)
