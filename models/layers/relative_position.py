"""Learned attention bias by distance (T5, arXiv 1910.10683): N positions, H heads."""

import math

import torch
from torch import Tensor, nn


class RelativePositionBias(nn.Module):
    """One learned value per head and bucket of distances, the same in every layer."""

    def __init__(self, n_heads: int, scale: float, n_buckets: int = 32, max_distance: int = 128) -> None:
        super().__init__()
        self.scale, self.n_buckets, self.max_distance = scale, n_buckets, max_distance
        self.table = nn.Embedding(n_buckets, n_heads)

    def forward(self, n_positions: int) -> Tensor:
        """Return (1, H, N, N), to be added to the scores of queries (rows) for keys (columns)."""
        position_N = torch.arange(n_positions, device=self.table.weight.device)
        buckets_NN = distance_buckets(
            position_N - position_N[:, None], self.n_buckets, max_distance=self.max_distance
        )
        bias_NNH: Tensor = self.table(buckets_NN) * self.scale
        return bias_NNH.permute(2, 0, 1)[None]


def distance_buckets(distance: Tensor, n_buckets: int, *, max_distance: int) -> Tensor:
    """Sort signed distances (key minus query, int64) into `n_buckets`, half of them for keys that come later.

    The first half of each side's buckets hold one distance each, the others grow by a constant factor up to
    `max_distance`; the last one holds everything beyond.
    """
    side = n_buckets // 2
    single = side // 2
    size = distance.abs()
    growth = torch.log(size.clamp(min=1).float() / single) / math.log(max_distance / single)
    grown = (single + (growth * (side - single)).long()).clamp(max=side - 1)
    return (distance > 0).long() * side + torch.where(size < single, size, grown)
