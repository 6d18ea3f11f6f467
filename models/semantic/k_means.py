"""k-means over more vectors than fit into memory: N vectors, D channels, V cells.

Lloyd's algorithm by sufficient statistics: any split of the vectors into blocks gives the same sums, so blocks may be
summed anywhere and added up. Sums are in float64; equal blocks in equal order give equal centroids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial, reduce
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from models.codecs.quantizer import cell_statistics, nearest

R = TypeVar("R")

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


class Blocks(Protocol):
    """All vectors, block by block."""

    def __call__(self, function: Callable[[Tensor, int], R]) -> Iterable[R]:
        """`function` of each block (N, D) and the number of its first vector, in the order of the blocks."""
        ...


def fit(
    blocks: Blocks,
    size: int,
    iterations: int,
    seed: int,
    report: Callable[[int, Statistics], None] = lambda _iteration, _found: None,
) -> Tensor:
    """Centroids (size, D) of the vectors of all blocks, which are read `iterations` + 1 times.

    `iterations` of Lloyd's algorithm from vectors chosen by `seed`; `report` gets what each pass found. ValueError for
    fewer vectors than `size`.
    """
    chosen, n_vectors = None, 0
    # Twice as many: the second half stands by for cells that run empty.
    for found, n_found in blocks(partial(_counted_sample, size=2 * size, seed=seed)):
        chosen = found if chosen is None else joined(chosen, found, 2 * size)
        n_vectors += n_found
    if chosen is None or n_vectors < size:
        raise ValueError(f"k-means has {n_vectors} vectors for {size} cells; it needs at least one a cell")
    start_VD, spare_VD = chosen.vectors_SD[:size], chosen.vectors_SD[-size:]
    centroids_VD = start_VD
    for iteration in range(iterations):
        passes = blocks(partial(_block_statistics, centroids_VD=centroids_VD))
        total = reduce(Statistics.__add__, passes)
        report(iteration, total)
        centroids_VD = moved(centroids_VD, total, spare_VD)
    return centroids_VD


def in_memory(blocks: Callable[[], Iterable[Tensor]]) -> Blocks:
    """Blocks that are read here, one after the other."""

    def mapped(function: Callable[[Tensor, int], R]) -> Iterable[R]:
        first = 0
        for block_ND in blocks():
            yield function(block_ND, first)
            first += len(block_ND)

    return mapped


def _counted_sample(vectors_ND: Tensor, first: int, size: int, seed: int) -> tuple[Sample, int]:
    return sample(vectors_ND, first, size, seed), len(vectors_ND)


def _block_statistics(vectors_ND: Tensor, _first: int, centroids_VD: Tensor) -> Statistics:
    return statistics(vectors_ND, centroids_VD)


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
