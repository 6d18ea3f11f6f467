"""k-means over more vectors than fit into memory: N vectors, D channels, V cells.

Lloyd's algorithm by sufficient statistics: any split of the vectors into blocks gives the same sums, so blocks may be
summed anywhere and added up. Sums are in float64; equal blocks in equal order give equal centroids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from models.codecs.quantizer import cell_statistics, nearest

_ROW_KEY = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Statistics:
    """Sums of one pass over a block."""

    counts_V: Tensor
    sums_VD: Tensor
    """float64."""
    squares: float
    """Sum of the squared distances to the nearest centroids."""

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(
            self.counts_V + other.counts_V, self.sums_VD + other.sums_VD, self.squares + other.squares
        )


@dataclass(frozen=True)
class Sample:
    """The vectors whose places, numbered through, have the smallest keys: a random choice that no split changes."""

    keys_S: Tensor
    """Ascending."""
    vectors_SD: Tensor


def sample(vectors_ND: Tensor, first: int, size: int, seed: int) -> Sample:
    """Choose up to `size` of a block of which the first vector is number `first` of all."""
    places_N = torch.arange(first, first + len(vectors_ND), device=vectors_ND.device)
    return _smallest(_scrambled(places_N, seed), vectors_ND, size)


def joined(one: Sample, other: Sample, size: int) -> Sample:
    """The choice of two blocks together."""
    keys_S = torch.cat([one.keys_S, other.keys_S])
    return _smallest(keys_S, torch.cat([one.vectors_SD, other.vectors_SD]), size)


def statistics(vectors_ND: Tensor, centroids_VD: Tensor) -> Statistics:
    """Assign a block of vectors to their nearest centroids."""
    codes_N = nearest(vectors_ND, centroids_VD)
    counts_V, sums_VD = cell_statistics(vectors_ND.double(), codes_N, len(centroids_VD))
    squares = float((vectors_ND - centroids_VD[codes_N]).double().square().sum())
    return Statistics(counts_V, sums_VD, squares)


def moved(centroids_VD: Tensor, found: Statistics, spare_VD: Tensor) -> Tensor:
    """The means of the cells; an empty cell starts again at its spare vector."""
    means_VD = (found.sums_VD / found.counts_V.clamp(min=1)[:, None]).to(centroids_VD.dtype)
    return torch.where(found.counts_V[:, None] > 0, means_VD, spare_VD)


def fit(blocks: Callable[[], Iterable[Tensor]], size: int, iterations: int, seed: int) -> Tensor:
    """Centroids (size, D) of the vectors of all blocks (N, D), which are read `iterations` + 1 times.

    `iterations` of Lloyd's algorithm from vectors chosen by `seed`. ValueError for fewer vectors than `size`.
    """
    chosen, first = None, 0
    for block_ND in blocks():
        # Twice as many: the second half stands by for cells that run empty.
        found = sample(block_ND, first, 2 * size, seed)
        chosen = found if chosen is None else joined(chosen, found, 2 * size)
        first += len(block_ND)
    if chosen is None or first < size:
        raise ValueError(f"k-means has {first} vectors for {size} cells; it needs at least one a cell")
    start_VD, spare_VD = chosen.vectors_SD[:size], chosen.vectors_SD[-size:]
    centroids_VD = start_VD
    for _ in range(iterations):
        passes = (statistics(block_ND, centroids_VD) for block_ND in blocks())
        centroids_VD = moved(centroids_VD, reduce(Statistics.__add__, passes), spare_VD)
    return centroids_VD


def _smallest(keys_N: Tensor, vectors_ND: Tensor, size: int) -> Sample:
    chosen_S = keys_N.argsort()[:size]
    return Sample(keys_N[chosen_S], vectors_ND[chosen_S])


def _scrambled(places_N: Tensor, seed: int) -> Tensor:
    """A fixed pseudo-random number in int64 for each place (SplitMix64's finalizer)."""
    keys_N = places_N.to(torch.int64) + _signed(seed * _ROW_KEY + 1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # The shift must not copy the sign.
        high_N = (keys_N >> shift) & ((1 << (64 - shift)) - 1)
        keys_N = (keys_N ^ high_N) * _signed(factor)
    return keys_N


def _signed(value: int) -> int:
    """The int64 that has the lowest 64 bits of `value`."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >= 1 << 63 else value
