"""Normalisation: B rows, N positions, D channels, C condition channels."""

import torch
from torch import Tensor, nn


class AdaptiveRMSNorm(nn.Module):
    """RMS norm whose gain is a linear function of a condition vector: one vector a row.

    Starts as the plain RMS norm (gain 1). The published training code meant that too, but a later
    re-initialisation left its gains near 0.
    """

    def __init__(self, dim: int, condition_dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Linear(condition_dim, dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)

    def forward(self, x_BND: Tensor, condition_BC: Tensor) -> Tensor:
        """Normalise in float32; the result has the type of `x_BND`."""
        x = x_BND.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        gain: Tensor = self.gain(condition_BC)[:, None]
        return (x * scale * gain.float()).to(x_BND.dtype)
