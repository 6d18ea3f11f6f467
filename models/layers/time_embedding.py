"""Embedding of a diffusion time in [0, 1]."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


class LearnedTimeEmbedding(nn.Module):
    """[sin, cos] of learned frequencies, then a linear layer and SiLU: (B,) times to (B, out_dim)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(dim // 2))
        self.out = nn.Linear(2 * (dim // 2), out_dim)

    def forward(self, times_B: Tensor) -> Tensor:
        """Map (B,) times in [0, 1] to (B, out_dim)."""
        angles = times_B.float()[:, None] * self.frequencies.float() * (2 * math.pi)
        y: Tensor = self.out(torch.cat([angles.sin(), angles.cos()], dim=-1).to(self.out.weight.dtype))
        return F.silu(y)
