"""k-means by blocks: no split changes it, it finds what is there, and it comes to rest."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.semantic.k_means import fit, in_memory, joined, sample, statistics


def cut(vectors_ND: Tensor, cuts: list[int]) -> list[Tensor]:
    edges = sorted({0, len(vectors_ND), *(at % len(vectors_ND) for at in cuts)})
    return [vectors_ND[first:last] for first, last in pairwise(edges)]


def groups(seed: int) -> tuple[Tensor, Tensor]:
    """Five tight groups of 40 vectors, shuffled, and their middles."""
    generator = torch.Generator().manual_seed(seed)
    middles_VD = 10 * torch.eye(5)
    vectors_ND = middles_VD.repeat(40, 1) + 0.1 * torch.randn(200, 5, generator=generator)
    return vectors_ND[torch.randperm(200, generator=generator)], middles_VD


@given(st.integers(0, 99), st.lists(st.integers(1, 199), max_size=4))
def test_no_split_changes_the_centroids(seed: int, cuts: list[int]) -> None:
    vectors_ND, _ = groups(seed)
    whole_VD = fit(in_memory(lambda: [vectors_ND]), 6, 3, seed)
    torch.testing.assert_close(
        fit(in_memory(lambda: cut(vectors_ND, cuts)), 6, 3, seed), whole_VD, rtol=0, atol=1e-6
    )
    assert torch.equal(fit(in_memory(lambda: [vectors_ND]), 6, 3, seed), whole_VD)


@given(st.integers(0, 99), st.lists(st.integers(1, 199), max_size=4))
def test_no_split_changes_the_sample(seed: int, cuts: list[int]) -> None:
    vectors_ND, first, found = torch.arange(200.0)[:, None], 0, None
    for block_ND in cut(vectors_ND, cuts):
        one = sample(block_ND, first, 12, seed)
        found = one if found is None else joined(found, one, 12)
        first += len(block_ND)
    assert found is not None
    whole = sample(vectors_ND, 0, 12, seed)
    assert torch.equal(found.vectors_SD, whole.vectors_SD)
    assert len(whole.vectors_SD.unique()) == 12


def test_samples_are_spread_and_differ_by_seed() -> None:
    places = sample(torch.arange(10_000.0)[:, None], 0, 2_000, 1).vectors_SD.flatten()
    assert 4_700 < float(places.mean()) < 5_300
    assert 180 < int((places < 1_000).sum()) < 220 + 40
    other = sample(torch.arange(10_000.0)[:, None], 0, 2_000, 2).vectors_SD.flatten()
    assert len(set(places.tolist()) & set(other.tolist())) < 600


def test_each_group_gets_a_centroid() -> None:
    vectors_ND, middles_VD = groups(0)
    # With more cells than groups, every group is started in for nearly every seed; this one is no exception.
    centroids_VD = fit(in_memory(lambda: [vectors_ND]), 20, 10, seed=0)
    assert float(torch.cdist(middles_VD, centroids_VD).min(dim=1).values.max()) < 0.2


@given(st.integers(0, 20))
def test_the_distance_never_grows(seed: int) -> None:
    vectors_ND = torch.randn(120, 3, generator=torch.Generator().manual_seed(seed))
    squares = [
        statistics(vectors_ND, fit(in_memory(lambda: [vectors_ND]), 4, rounds, seed)).squares
        for rounds in range(5)
    ]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(squares))


def test_an_empty_cell_starts_again() -> None:
    vectors_ND = torch.cat([torch.zeros(50, 2), torch.ones(1, 2)])
    centroids_VD = fit(in_memory(lambda: [vectors_ND]), 2, 20, seed=3)
    assert statistics(vectors_ND, centroids_VD).counts_V.sum() == 51
    assert centroids_VD.isfinite().all()


def test_fewer_vectors_than_cells_are_refused() -> None:
    for blocks in ([], [torch.zeros(3, 2)]):
        with pytest.raises(ValueError, match=f"k-means has {3 * len(blocks)} vectors for 4 cells"):
            fit(in_memory(lambda blocks=blocks: blocks), 4, 1, 0)
