"""Factorized codebooks: codes are compared in few channels, below a projection (arXiv 2110.04627, section 3.2).

B rows, T frames, Q levels, D channels, c channels of a codebook, V codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codecs.quantizer import nearest

Metric = Literal["cosine", "euclidean"]
"""The code nearest in direction, or the nearest one."""


class FactorizedCodebook(nn.Module):
    """One codebook between two projections. The code's own vector is the value, whatever the metric."""

    def __init__(self, channels: int, codebook_size: int, codebook_channels: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, codebook_channels)
        self.vectors_Vc = nn.Parameter(torch.randn(codebook_size, codebook_channels))
        self.expand = nn.Linear(codebook_channels, channels)

    def nearest(self, latents_BTc: Tensor, metric: Metric = "cosine") -> Tensor:
        """Projected latents -> codes (B, T) int64, the lower one where two are equally near."""
        latents_Nc, vectors_Vc = latents_BTc.flatten(0, 1).float(), self.vectors_Vc.float()
        if metric == "cosine":
            latents_Nc, vectors_Vc = functional.normalize(latents_Nc), functional.normalize(vectors_Vc)
        return nearest(latents_Nc, vectors_Vc).view(latents_BTc.shape[:2])

    def lookup(self, codes_BT: Tensor) -> Tensor:
        """Codes -> vectors (B, T, D)."""
        expanded_BTD: Tensor = self.expand(self.vectors_Vc[codes_BT])
        return expanded_BTD


class FactorizedResidualQuantizer(nn.Module):
    """Factorized codebooks, each for what the ones before it left over."""

    def __init__(self, n_codebooks: int, channels: int, codebook_size: int, codebook_channels: int) -> None:
        super().__init__()
        made = (FactorizedCodebook(channels, codebook_size, codebook_channels) for _ in range(n_codebooks))
        self.levels: Sequence[FactorizedCodebook] = nn.ModuleList(made)  # type: ignore[assignment]

    def encode(self, latents_BTD: Tensor, n_levels: int | None = None, metric: Metric = "cosine") -> Tensor:
        """Latents -> codes (B, Q, T) int64 of the first `n_levels`."""
        residual_BTD, codes = latents_BTD, []
        for level in self.levels[:n_levels]:
            codes.append(level.nearest(level.project(residual_BTD), metric))
            residual_BTD = residual_BTD - level.lookup(codes[-1])
        return torch.stack(codes, dim=1)

    def decode(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> the sum of their vectors (B, T, D)."""
        levels = self.levels[first_level : first_level + codes_BQT.shape[1]]
        vectors = (
            level.lookup(codes_BT) for level, codes_BT in zip(levels, codes_BQT.unbind(1), strict=True)
        )
        return sum(vectors, torch.zeros((), device=codes_BQT.device))


def quantization_errors(latents_BTc: Tensor, vectors_BTc: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors of each row's valid frames (B,): one moves the latents to the codes, one the codes to them.

    Both are the same number; the first gives gradients to the latents alone, the second to the codes alone
    (arXiv 1711.00937, equation 3).
    """

    def mean_B(errors_BTc: Tensor) -> Tensor:
        valid_BTc = errors_BTc.square() * mask_BT[..., None]
        return valid_BTc.sum(dim=(1, 2)) / (mask_BT.sum(dim=1) * errors_BTc.shape[2]).clamp(min=1)

    return mean_B(latents_BTc - vectors_BTc.detach()), mean_B(vectors_BTc - latents_BTc.detach())
