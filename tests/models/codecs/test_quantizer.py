"""Known answers and invariants of the residual quantizer and of how its codebooks move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.codecs.quantizer import ResidualQuantizer, RunningCodebooks, k_means, nearest, perplexity


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clusters(per_cluster: int = 20) -> tuple[Tensor, Tensor]:
    """Four tight clusters of points, and their centres."""
    centres_VD = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
    noise = 0.1 * torch.randn(4, per_cluster, 2, generator=seeded(1))
    return (centres_VD[:, None] + noise).flatten(0, 1), centres_VD


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40), st.integers(1, 9))
def test_nearest_agrees_with_distances(seed: int, vectors: int, size: int) -> None:
    vectors_ND = torch.randn(vectors, 3, generator=seeded(seed), dtype=torch.float64)
    codebook_VD = torch.randn(size, 3, generator=seeded(seed + 1), dtype=torch.float64)
    assert torch.equal(nearest(vectors_ND, codebook_VD), torch.cdist(vectors_ND, codebook_VD).argmin(1))


def test_every_level_lowers_the_error_after_k_means() -> None:
    vectors_ND = torch.randn(2000, 6, generator=seeded())
    quantizer = ResidualQuantizer(4, 16, 6)
    RunningCodebooks(quantizer, 0.99, 0.05).initialise(quantizer, vectors_ND, seeded())
    codes_NQ = quantizer.encode(vectors_ND)
    errors = [float((vectors_ND - quantizer.decode(codes_NQ[:, :k])).square().mean()) for k in range(1, 5)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 * float(vectors_ND.square().mean())


def test_search_of_width_one_takes_the_nearest_codes() -> None:
    vectors_ND = torch.randn(300, 6, generator=seeded(), dtype=torch.float64)
    quantizer = ResidualQuantizer(4, 16, 6).double()
    quantizer.codebooks_QVD.normal_(generator=seeded(1))
    assert torch.equal(quantizer.search(vectors_ND, 1), quantizer.encode(vectors_ND))


def test_search_that_keeps_everything_finds_the_best_codes() -> None:
    vectors_ND = torch.randn(40, 4, generator=seeded(), dtype=torch.float64)
    quantizer = ResidualQuantizer(3, 5, 4).double()
    quantizer.codebooks_QVD.normal_(generator=seeded(1))
    every_NQ = torch.cartesian_prod(*[torch.arange(5)] * 3)
    best_N = torch.cdist(vectors_ND, quantizer.decode(every_NQ)).argmin(dim=1)
    assert torch.equal(quantizer.search(vectors_ND, 125), every_NQ[best_N])


def test_search_decides_what_float32_cannot_tell_apart() -> None:
    quantizer = ResidualQuantizer(2, 16, 6).double()
    quantizer.codebooks_QVD.normal_(generator=seeded(1))
    first_ND, second_ND = quantizer.codebooks_QVD[0, ::2], quantizer.codebooks_QVD[0, 1::2]
    nearer_ND = torch.lerp(first_ND, second_ND, 0.5 - 1e-10)
    farther_ND = torch.lerp(first_ND, second_ND, 0.5 + 1e-10)
    vectors_ND = torch.cat([nearer_ND, farther_ND])
    assert float((vectors_ND[:8] - vectors_ND[8:]).abs().max()) < 1e-8
    every_NQ = torch.cartesian_prod(*[torch.arange(16)] * 2)
    errors_NMD = vectors_ND[:, None] - quantizer.decode(every_NQ)
    best_N = errors_NMD.square().sum(dim=2).argmin(dim=1)
    assert torch.equal(quantizer.search(vectors_ND, 256), every_NQ[best_N])
    nearest_N = (vectors_ND[:, None] - quantizer.codebooks_QVD[0]).square().sum(dim=2).argmin(dim=1)
    assert torch.equal(quantizer.search(vectors_ND, 1)[:, 0], nearest_N)


def beam_search(vectors_ND: Tensor, codebooks_QVD: Tensor, width: int) -> Tensor:
    """Codes (N, Q) by sorting all extensions of all kept beginnings, row by row in float64."""
    found = []
    for vector_D in vectors_ND:
        paths: list[tuple[list[int], Tensor]] = [([], vector_D)]
        for codebook_VD in codebooks_QVD:
            longer = [
                ([*codes, code], rest_D - codebook_VD[code])
                for codes, rest_D in paths
                for code in range(len(codebook_VD))
            ]
            errors = torch.stack([rest_D for _, rest_D in longer]).square().sum(dim=1)
            paths = [longer[place] for place in errors.argsort()[:width].tolist()]
        found.append(torch.tensor(paths[0][0]))
    return torch.stack(found)


@pytest.mark.parametrize("size", [64, 12], ids=["grouped", "not grouped"])
def test_search_is_the_beam_search_also_near_ties(size: int) -> None:
    quantizer = ResidualQuantizer(3, size, 6).double()
    quantizer.codebooks_QVD.normal_(generator=seeded(1)).mul_(torch.tensor([1.0, 0.3, 0.1])[:, None, None])
    drawn_ND = torch.randn(30, 6, generator=seeded(), dtype=torch.float64)
    # Between a code of the last level and its neighbour, but for less than float32 can tell.
    codes_NQ = torch.randint(0, size, (30, 3), generator=seeded(2))
    last_VD = quantizer.codebooks_QVD[2]
    distances_VV = torch.cdist(last_VD, last_VD).fill_diagonal_(torch.inf)
    step_ND = last_VD[distances_VV.argmin(dim=1)[codes_NQ[:, 2]]] - last_VD[codes_NQ[:, 2]]
    sums_ND = quantizer.decode(codes_NQ)
    near_ND = torch.cat([sums_ND + (0.5 + shift) * step_ND for shift in (-1e-10, 1e-10)])
    vectors_ND = torch.cat([drawn_ND, near_ND])
    expected_NQ = beam_search(vectors_ND, quantizer.codebooks_QVD, 4)
    assert torch.equal(quantizer.search(vectors_ND, 4), expected_NQ)
    many_ND = vectors_ND.repeat(20, 1)
    assert torch.equal(quantizer.search(many_ND, 4), expected_NQ.repeat(20, 1))


def test_search_of_nothing_finds_nothing() -> None:
    quantizer = ResidualQuantizer(3, 64, 6).double()
    assert quantizer.search(torch.zeros(0, 6, dtype=torch.float64), 4).shape == (0, 3)


def test_a_wider_search_lowers_the_error() -> None:
    vectors_ND = torch.randn(500, 6, generator=seeded())
    quantizer = ResidualQuantizer(4, 16, 6)
    RunningCodebooks(quantizer, 0.99, 0.05).initialise(quantizer, vectors_ND, seeded())
    errors = [
        float((vectors_ND - quantizer.decode(quantizer.search(vectors_ND, width))).square().mean())
        for width in (1, 4, 16)
    ]
    assert errors[0] > errors[1] > errors[2]


def test_k_means_finds_separate_clusters() -> None:
    points_ND, centres_VD = clusters()
    errors = []
    for seed in range(5):
        codebook_VD = k_means(points_ND, 4, 20, seeded(seed))
        errors.append(float(torch.cdist(centres_VD, codebook_VD).amin(dim=1).max()))
    assert min(errors) < 0.1


def test_k_means_needs_a_vector_a_code() -> None:
    with pytest.raises(ValueError, match="3 vectors for 4 codes"):
        k_means(torch.zeros(3, 2), 4, 1, seeded())


def test_codebooks_follow_the_mean_of_their_vectors() -> None:
    points_ND, centres_VD = clusters()
    quantizer = ResidualQuantizer(1, 4, 2)
    codebooks = RunningCodebooks(quantizer, 0.5, 0.0)
    codebooks.initialise(quantizer, centres_VD + 1.0, seeded())
    for _ in range(30):
        codebooks.observe(quantizer, points_ND, quantizer.encode(points_ND), seeded())
        codebooks.update(quantizer)
    means_VD = points_ND.reshape(4, -1, 2).mean(dim=1)
    assert float(torch.cdist(means_VD, quantizer.codebooks_QVD[0]).amin(dim=1).max()) < 1e-3


def test_an_unused_code_comes_back_into_use() -> None:
    points_ND, centres_VD = clusters()
    quantizer = ResidualQuantizer(1, 4, 2)
    codebooks = RunningCodebooks(quantizer, 0.5, 0.05)
    codebooks.initialise(quantizer, centres_VD, seeded())
    codebooks.sums_QVD[0, 2] = 1e6 * codebooks.counts_QV[0, 2]
    quantizer.codebooks_QVD[0, 2] = 1e6
    revived = 0
    for step in range(40):
        codebooks.observe(quantizer, points_ND, quantizer.encode(points_ND), seeded(step))
        revived += codebooks.update(quantizer)
    assert revived > 0
    assert set(quantizer.encode(points_ND)[:, 0].tolist()) == {0, 1, 2, 3}


def test_a_step_without_vectors_changes_nothing() -> None:
    _, centres_VD = clusters()
    quantizer = ResidualQuantizer(1, 4, 2)
    codebooks = RunningCodebooks(quantizer, 0.5, 0.05)
    codebooks.initialise(quantizer, centres_VD, seeded())
    before = quantizer.codebooks_QVD.clone()
    assert codebooks.update(quantizer) == 0
    assert torch.equal(before, quantizer.codebooks_QVD)


def test_perplexity_counts_codes_in_even_use() -> None:
    counts_QV = torch.tensor([[5.0, 5.0, 5.0, 5.0], [7.0, 0.0, 0.0, 0.0], [3.0, 3.0, 0.0, 0.0]])
    torch.testing.assert_close(perplexity(counts_QV), torch.tensor([4.0, 1.0, 2.0]))
