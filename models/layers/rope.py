"""Rotary position embedding, arXiv 2104.09864, in the half-split layout of Llama checkpoints."""

import torch
from torch import Tensor

Rotation = tuple[Tensor, Tensor]


def rotation_at(positions_BN: Tensor, head_dim: int, theta: float = 10000.0) -> Rotation:
    """Return cosines and sines, each (B, N, head_dim) float32, of integer positions."""
    exponents = torch.arange(0, head_dim, 2, device=positions_BN.device, dtype=torch.float32) / head_dim
    angles = positions_BN[..., None].float() * theta**-exponents
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x_BNHd: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries or keys (B, N, heads, head_dim) by their positions; their type is kept."""
    cosine, sine = (part[:, :, None].to(x_BNHd.dtype) for part in rotation)
    first, second = x_BNHd.chunk(2, dim=-1)
    return x_BNHd * cosine + torch.cat([-second, first], dim=-1) * sine
