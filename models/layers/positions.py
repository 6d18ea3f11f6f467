"""Sinusoidal positions that are added to a sequence once: B rows, N positions, D channels."""

import math

import torch
from torch import Tensor


def sinusoidal_positions(positions_BN: Tensor, dim: int) -> Tensor:
    """Return (B, N, D) float32 [sin, cos] of integer positions, with frequencies 10000^(-k / (D / 2))."""
    steps = torch.arange(dim // 2, device=positions_BN.device, dtype=torch.float32)
    angles = positions_BN[..., None].float() * torch.exp(steps * (-math.log(10000) / (dim // 2)))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
