"""Embedding of a diffusion time in [0, 1]."""

import math

import torch
from torch import Tensor, nn

from models.layers.feed_forward import silu_mlp


def sinusoids(times_B: Tensor, dim: int) -> Tensor:
    """Return (B, dim) float32 [sin, cos] of the raw times (not scaled by 1000, as MaskGCT does)."""
    half = dim // 2
    steps = torch.arange(half, device=times_B.device, dtype=torch.float32)
    angles = times_B.float()[:, None] * torch.exp(steps * (-math.log(10000) / max(half - 1, 1)))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids of the time followed by a SiLU network."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.dim = dim
        self.mlp = silu_mlp(dim, ratio)

    def forward(self, times_B: Tensor) -> Tensor:
        """Map (B,) times to (B, dim)."""
        y: Tensor = self.mlp(sinusoids(times_B, self.dim).to(next(self.mlp.parameters()).dtype))
        return y
