"""Residual vector quantization: each level codes what the levels before it left over.

Codebooks are moved by running averages rather than by gradients (van den Oord et al. 2017, appendix A.1), start from
k-means level by level, and codes that fall out of use are moved onto vectors that are badly served (SoundStream,
Zeghidour et al. 2021, section III-C).

Shape suffixes: N vectors, D channels, Q levels, V codes of a codebook.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_CHUNK = 8192
_SEARCH_CHUNK = {"cpu": 512}
"""Vectors searched at once; what fits a core's cache (measured: docs/log.md)."""
_LARGEST_SEARCH_CHUNK = 8192
_GROUP = 32


class ResidualQuantizer(nn.Module):
    """Q codebooks of V vectors of D channels, Euclidean distance."""

    codebooks_QVD: Tensor

    def __init__(self, n_codebooks: int, codebook_size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("codebooks_QVD", torch.zeros(n_codebooks, codebook_size, channels))

    def encode(self, vectors_ND: Tensor, levels: slice = slice(None)) -> Tensor:
        """Vectors -> codes (N, Q) int64 of these levels, each level's nearest code.

        The first of them codes the vectors themselves, whatever level it is.
        """
        residual_ND, codes = vectors_ND, []
        for codebook_VD in self.codebooks_QVD[levels].to(vectors_ND.dtype):
            codes_N = nearest(residual_ND, codebook_VD)
            residual_ND = residual_ND - codebook_VD[codes_N]
            codes.append(codes_N)
        return torch.stack(codes, dim=1)

    @torch.no_grad()
    def search(self, vectors_ND: Tensor, width: int) -> Tensor:
        """Vectors -> codes (N, Q) int64; keeps the best `width` beginnings at every level, so a first choice that
        leaves less to the later levels wins over the nearest one. Width 1 is `encode`.

        Codes of float64 vectors are those that float64 arithmetic gives: scores are computed in float32 first, and at
        each level again for the few vectors where rounding could have decided.
        """
        codebooks_QVD = self.codebooks_QVD
        half_squares_QV1 = codebooks_QVD.square().sum(dim=2, keepdim=True) / 2
        exact_QVE = torch.cat([-codebooks_QVD, half_squares_QV1], dim=2)
        quick_QVE = exact_QVE.float()
        vectors_ND = vectors_ND.to(codebooks_QVD.dtype)
        chunk = _SEARCH_CHUNK.get(vectors_ND.device.type, _LARGEST_SEARCH_CHUNK)
        pieces = torch.split(vectors_ND, chunk)
        return torch.cat(
            [_search(piece_ND, codebooks_QVD, exact_QVE, quick_QVE, width) for piece_ND in pieces]
        )

    def lookup(self, codes_NQ: Tensor, first_level: int = 0) -> Tensor:
        """The vectors (N, k, D) of k levels from `first_level` on, not yet summed."""
        levels_Q = torch.arange(codes_NQ.shape[1], device=codes_NQ.device) + first_level
        return self.codebooks_QVD[levels_Q, codes_NQ]

    def decode(self, codes_NQ: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors (N, D)."""
        return self.lookup(codes_NQ, first_level).sum(dim=1)


def nearest(vectors_ND: Tensor, codebook_VD: Tensor) -> Tensor:
    """Index (N,) of each vector's nearest code; the lower index where two are equally near."""
    offset_V = codebook_VD.square().sum(dim=1) / 2
    codes_N = torch.empty(vectors_ND.shape[0], dtype=torch.int64, device=vectors_ND.device)
    for start in range(0, len(codes_N), _CHUNK):
        part_ND = vectors_ND[start : start + _CHUNK]
        codes_N[start : start + _CHUNK] = torch.addmm(offset_V, part_ND, codebook_VD.T, alpha=-1).argmin(
            dim=1
        )
    return codes_N


def _search(
    vectors_ND: Tensor, codebooks_QVD: Tensor, exact_QVE: Tensor, quick_QVE: Tensor, width: int
) -> Tensor:
    """Codes (N, Q); the last two are the codebooks as `_best_extensions` wants them, in both precisions."""
    (rows, channels), (levels, size, _) = vectors_ND.shape, codebooks_QVD.shape
    rows_N1 = torch.arange(rows, device=vectors_ND.device)[:, None]
    residual_NWD = vectors_ND[:, None]
    paths_NWQ = torch.zeros(rows, 1, 0, dtype=torch.int64, device=vectors_ND.device)
    for level, codebook_VD in enumerate(codebooks_QVD):
        # Of the last level only the best is kept.
        kept = width if level < levels - 1 else 1
        best_NW, near_N = _best_extensions(residual_NWD, quick_QVE[level], kept)
        near_K = near_N.nonzero()[:, 0]
        if len(near_K) and exact_QVE.dtype == torch.float64:
            best_NW[near_K], _ = _best_extensions(residual_NWD[near_K], exact_QVE[level], kept)
        parent_NW, code_NW = best_NW // size, best_NW % size
        begun_NWQ = paths_NWQ.gather(1, parent_NW[..., None].expand(-1, -1, level))
        paths_NWQ = torch.cat([begun_NWQ, code_NW[..., None]], dim=2)
        parent_M = (rows_N1 * residual_NWD.shape[1] + parent_NW).flatten()
        residual_MD = residual_NWD.reshape(-1, channels).index_select(0, parent_M)
        residual_MD = residual_MD - codebook_VD.index_select(0, code_NW.flatten())
        residual_NWD = residual_MD.view(*code_NW.shape, channels)
    return paths_NWQ[:, 0]


def _best_extensions(residual_NWD: Tensor, scoring_VE: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` nearest pairs of each row, as path * V + code, and whether float32 might have taken others (N,).

    `scoring_VE` holds each code's negative and, after it, half its square: one product gives all scores. Only groups of
    scores whose least is among the least can hold one of the nearest, and finding the least of every group is far
    cheaper than sorting.
    """
    rows, paths, channels = residual_NWD.shape
    size = scoring_VE.shape[0]
    # Every groups-th score is a group, so that the least of all groups is found in whole vectors of processor words.
    members = _GROUP if size % _GROUP == 0 else 1
    groups, wanted = size // members, min(width + 1, paths * size)
    residual_NWE = scoring_VE.new_ones(rows, paths, channels + 1)
    residual_NWE[..., :channels] = residual_NWD
    scores_MV = residual_NWE.flatten(0, 1) @ scoring_VE.T
    half_square_NW = residual_NWE[..., :channels].square().sum(dim=2) / 2
    least_NWG = scores_MV.view(rows, paths, members, groups).amin(dim=2) + half_square_NW[..., None]
    chosen_NK = least_NWG.flatten(1).topk(min(wanted, paths * groups), largest=False, sorted=False).indices
    path_NK = chosen_NK // groups
    first_NK = path_NK * size + chosen_NK % groups
    members_S = torch.arange(0, size, groups, device=residual_NWD.device)
    places_NKS = first_NK[..., None] + members_S
    scores_NKS = scores_MV.view(rows, paths * size).gather(1, places_NKS.flatten(1)).view_as(places_NKS)
    totals_NC = (scores_NKS + half_square_NW.gather(1, path_NK)[..., None]).flatten(1)
    best = totals_NC.topk(wanted, largest=False)
    best_NW = places_NKS.flatten(1).gather(1, best.indices[:, :width])
    near_N = torch.zeros(rows, dtype=torch.bool, device=residual_NWD.device)
    if wanted > width:
        # Rounding of a sum of products is at most one unit a product of what all of them could amount to.
        largest_N = half_square_NW.amax(dim=1) + scoring_VE[:, -1].amax()
        bound_N = (channels + 8) * 2**-24 * 2 * largest_N
        near_N = best.values[:, width] - best.values[:, width - 1] < 2 * bound_N
    return best_NW, near_N


def k_means(vectors_ND: Tensor, size: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Codebook (size, D) by Lloyd's algorithm from random distinct rows; an empty cell restarts at a random row.

    ValueError when there are fewer vectors than codes.
    """
    count = vectors_ND.shape[0]
    if count < size:
        raise ValueError(f"k-means has {count} vectors for {size} codes; it needs at least one per code")
    codebook_VD = vectors_ND[torch.randperm(count, generator=generator)[:size]].clone()
    for _ in range(iterations):
        counts_V, sums_VD = cell_statistics(vectors_ND, nearest(vectors_ND, codebook_VD), size)
        restart_VD = vectors_ND[torch.randint(count, (size,), generator=generator)]
        means_VD = sums_VD / counts_V.clamp(min=1)[:, None]
        codebook_VD = torch.where(counts_V[:, None] > 0, means_VD, restart_VD)
    return codebook_VD


def cell_statistics(vectors_ND: Tensor, codes_N: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Number of vectors per code (V,), and their sum (V, D)."""
    counts_V = torch.bincount(codes_N, minlength=size).to(vectors_ND.dtype)
    sums_VD = vectors_ND.new_zeros(size, vectors_ND.shape[1]).index_add_(0, codes_N, vectors_ND)
    return counts_V, sums_VD


def perplexity(counts_QV: Tensor) -> Tensor:
    """exp(entropy) of the use of each level's codes, (Q,): V when all are used alike, 1 when one is used alone."""
    shares_QV = counts_QV / counts_QV.sum(dim=1, keepdim=True).clamp(min=1e-12)
    entropies_Q: Tensor = torch.special.entr(shares_QV).sum(dim=1)
    return entropies_Q.exp()


class RunningCodebooks(nn.Module):
    """Moves the codebooks of a quantizer towards the running means of what their codes are given.

    `observe` gathers the statistics of a batch, `update` applies them once per training step. Its buffers are part of
    a training checkpoint, so that a continued run goes on exactly.
    """

    counts_QV: Tensor
    sums_QVD: Tensor
    batch_counts_QV: Tensor
    batch_sums_QVD: Tensor
    spare_QSD: Tensor

    def __init__(
        self, quantizer: ResidualQuantizer, decay: float, revive_below: float, spares: int = 64
    ) -> None:
        super().__init__()
        levels, size, channels = quantizer.codebooks_QVD.shape
        self.decay, self.revive_below = decay, revive_below
        for name in ("counts_QV", "batch_counts_QV"):
            self.register_buffer(name, torch.zeros(levels, size))
        for name in ("sums_QVD", "batch_sums_QVD"):
            self.register_buffer(name, torch.zeros(levels, size, channels))
        self.register_buffer("spare_QSD", torch.zeros(levels, spares, channels))

    @torch.no_grad()
    def initialise(
        self, quantizer: ResidualQuantizer, vectors_ND: Tensor, generator: torch.Generator
    ) -> None:
        """k-means of the vectors, then of what the first level leaves, and so on."""
        residual_ND = vectors_ND
        for level, codebook_VD in enumerate(quantizer.codebooks_QVD):
            codebook_VD.copy_(k_means(residual_ND, codebook_VD.shape[0], 10, generator))
            codes_N = nearest(residual_ND, codebook_VD)
            counts_V, _ = cell_statistics(residual_ND, codes_N, codebook_VD.shape[0])
            share_V = counts_V / counts_V.mean()
            self.counts_QV[level] = share_V
            self.sums_QVD[level] = codebook_VD * share_V[:, None]
            residual_ND = residual_ND - codebook_VD[codes_N]

    @torch.no_grad()
    def restart(self, quantizer: ResidualQuantizer) -> None:
        """Go on from the quantizer's codebooks, as if all codes had been used alike."""
        self.counts_QV.fill_(1.0)
        self.sums_QVD.copy_(quantizer.codebooks_QVD)

    @torch.no_grad()
    def observe(
        self, quantizer: ResidualQuantizer, vectors_ND: Tensor, codes_NQ: Tensor, generator: torch.Generator
    ) -> None:
        """Add a batch's vectors and codes to the statistics of this step."""
        residual_ND = vectors_ND
        rows_S = torch.randint(vectors_ND.shape[0], (self.spare_QSD.shape[1],), generator=generator)
        for level, codebook_VD in enumerate(quantizer.codebooks_QVD):
            counts_V, sums_VD = cell_statistics(residual_ND, codes_NQ[:, level], codebook_VD.shape[0])
            self.batch_counts_QV[level] += counts_V
            self.batch_sums_QVD[level] += sums_VD
            self.spare_QSD[level] = residual_ND[rows_S.to(residual_ND.device)]
            residual_ND = residual_ND - codebook_VD[codes_NQ[:, level]]

    @torch.no_grad()
    def update(self, quantizer: ResidualQuantizer) -> int:
        """Apply the step's statistics (counts relative to an even use); returns how many codes were revived."""
        even_use = self.batch_counts_QV.sum(dim=1).mean() / self.batch_counts_QV.shape[1]
        if not even_use > 0:
            return 0
        self.counts_QV.lerp_(self.batch_counts_QV / even_use, 1 - self.decay)
        self.sums_QVD.lerp_(self.batch_sums_QVD / even_use, 1 - self.decay)
        revived = self._revive()
        quantizer.codebooks_QVD.copy_(self.sums_QVD / self.counts_QV.clamp(min=1e-6)[..., None])
        self.batch_counts_QV.zero_()
        self.batch_sums_QVD.zero_()
        return revived

    def _revive(self) -> int:
        """Move unused codes onto vectors of the last batch, at most one code a spare vector and level."""
        revived = 0
        for level, counts_V in enumerate(self.counts_QV):
            dead = torch.nonzero(counts_V < self.revive_below).flatten()[: self.spare_QSD.shape[1]]
            counts_V[dead] = 1.0
            self.sums_QVD[level, dead] = self.spare_QSD[level, : len(dead)]
            revived += len(dead)
        return revived
