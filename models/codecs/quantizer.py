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
_SEARCH_CHUNK = 256
_GROUP = 16


class ResidualQuantizer(nn.Module):
    """Q codebooks of V vectors of D channels, Euclidean distance."""

    codebooks_QVD: Tensor

    def __init__(self, n_codebooks: int, codebook_size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("codebooks_QVD", torch.zeros(n_codebooks, codebook_size, channels))

    def encode(self, vectors_ND: Tensor) -> Tensor:
        """Vectors -> codes (N, Q) int64, each level's nearest code."""
        residual_ND, codes = vectors_ND, []
        for codebook_VD in self.codebooks_QVD:
            codes_N = nearest(residual_ND, codebook_VD)
            residual_ND = residual_ND - codebook_VD[codes_N]
            codes.append(codes_N)
        return torch.stack(codes, dim=1)

    def search(self, vectors_ND: Tensor, width: int) -> Tensor:
        """Vectors -> codes (N, Q) int64; keeps the best `width` beginnings at every level, so a first choice that
        leaves less to the later levels wins over the nearest one. Width 1 is `encode`.

        Codes of float64 vectors are those that float64 arithmetic gives. Scores are computed in float32 first, and
        again for the vectors (9 in 100 of speech) where rounding could have decided: 2.2x the speed.
        """
        exact_QVD, quick_QVD = self.codebooks_QVD, self.codebooks_QVD.float()
        pieces = [vectors_ND.new_zeros(0, exact_QVD.shape[0], dtype=torch.int64)]
        for start in range(0, vectors_ND.shape[0], _SEARCH_CHUNK):
            piece_ND = vectors_ND[start : start + _SEARCH_CHUNK]
            codes_NQ, sure_N = _search(piece_ND, exact_QVD, quick_QVD, width)
            unsure_N = ~sure_N
            if exact_QVD.dtype == torch.float64 and unsure_N.any():
                codes_NQ[unsure_N], _ = _search(piece_ND[unsure_N], exact_QVD, exact_QVD, width)
            pieces.append(codes_NQ)
        return torch.cat(pieces)

    def lookup(self, codes_NQ: Tensor) -> Tensor:
        """The vectors (N, Q, D) of the first levels, not yet summed."""
        levels_Q = torch.arange(codes_NQ.shape[1], device=codes_NQ.device)
        return self.codebooks_QVD[levels_Q, codes_NQ]

    def decode(self, codes_NQ: Tensor) -> Tensor:
        """Codes of the first k <= Q levels -> vectors (N, D)."""
        return self.lookup(codes_NQ).sum(dim=1)


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
    vectors_ND: Tensor, codebooks_QVD: Tensor, scoring_QVD: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """Codes (N, Q) with scores in the precision of `scoring_QVD`, and for which rows (N,) that precision sufficed."""
    residual_NWD = vectors_ND[:, None]
    paths_NWQ = vectors_ND.new_zeros(vectors_ND.shape[0], 1, 0, dtype=torch.int64)
    sure_N = torch.ones(vectors_ND.shape[0], dtype=torch.bool, device=vectors_ND.device)
    last = len(codebooks_QVD) - 1
    for level, (codebook_VD, scoring_VD) in enumerate(zip(codebooks_QVD, scoring_QVD, strict=True)):
        # Of the last level only the best is kept.
        kept = width if level < last else 1
        parent_NW, code_NW, near_N = _best_extensions(residual_NWD.to(scoring_VD.dtype), scoring_VD, kept)
        sure_N &= ~near_N
        paths_NWQ = torch.cat([_take(paths_NWQ, parent_NW), code_NW[..., None]], dim=2)
        residual_NWD = _take(residual_NWD, parent_NW) - codebook_VD[code_NW]
    return paths_NWQ[:, 0], sure_N


def _best_extensions(residual_NWD: Tensor, codebook_VD: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `width` nearest (path, code) pairs of each row, and whether float32 might have taken others (N,).

    Only groups of scores whose least is among the least can hold one of them, and finding the least of every group is
    far cheaper than sorting.
    """
    rows, paths, channels = residual_NWD.shape
    size = codebook_VD.shape[0]
    # Every groups-th score is a group, so that the least of all groups is found in whole vectors of processor words.
    members = _GROUP if size % _GROUP == 0 else 1
    groups, wanted = size // members, min(width + 1, paths * size)
    half_square_V = codebook_VD.square().sum(dim=1) / 2
    scores_MV = torch.addmm(half_square_V, residual_NWD.reshape(-1, channels), codebook_VD.T, alpha=-1)
    half_square_NW = residual_NWD.square().sum(dim=2) / 2
    least_NWG = scores_MV.view(rows, paths, members, groups).amin(dim=2) + half_square_NW[..., None]
    chosen_NK = least_NWG.flatten(1).topk(min(wanted, paths * groups), dim=1, largest=False).indices
    first_NK = chosen_NK // groups * size + chosen_NK % groups
    members_S = torch.arange(0, size, groups, device=residual_NWD.device)
    places_NC = (first_NK[..., None] + members_S).flatten(1)
    totals_NC = scores_MV.view(rows, -1).gather(1, places_NC) + half_square_NW.gather(1, places_NC // size)
    best = totals_NC.topk(wanted, dim=1, largest=False)
    best_NW = places_NC.gather(1, best.indices[:, :width])
    near_N = torch.zeros(rows, dtype=torch.bool, device=residual_NWD.device)
    if wanted > width:
        # Rounding of a sum of products is at most one unit a product of what all of them could amount to.
        largest_N = half_square_NW.amax(dim=1) + half_square_V.amax()
        bound_N = (channels + 8) * 2**-24 * 2 * largest_N
        near_N = best.values[:, width] - best.values[:, width - 1] < 2 * bound_N
    return best_NW // size, best_NW % size, near_N


def _take(values_NWX: Tensor, parent_NW: Tensor) -> Tensor:
    return values_NWX.gather(1, parent_NW[..., None].expand(-1, -1, values_NWX.shape[2]))


def k_means(vectors_ND: Tensor, size: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Codebook (size, D) by Lloyd's algorithm from random distinct rows; an empty cell restarts at a random row.

    ValueError when there are fewer vectors than codes.
    """
    count = vectors_ND.shape[0]
    if count < size:
        raise ValueError(f"k-means has {count} vectors for {size} codes; it needs at least one a code")
    codebook_VD = vectors_ND[torch.randperm(count, generator=generator)[:size]].clone()
    for _ in range(iterations):
        counts_V, sums_VD = cell_statistics(vectors_ND, nearest(vectors_ND, codebook_VD), size)
        restart_VD = vectors_ND[torch.randint(count, (size,), generator=generator)]
        means_VD = sums_VD / counts_V.clamp(min=1)[:, None]
        codebook_VD = torch.where(counts_V[:, None] > 0, means_VD, restart_VD)
    return codebook_VD


def cell_statistics(vectors_ND: Tensor, codes_N: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """How many vectors each code has (V,), and their sum (V, D)."""
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
