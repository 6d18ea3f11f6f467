"""The Snake activation (arXiv 2006.08195) with a learned frequency a channel."""

import torch
from torch import Tensor, nn


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, as descript-audio-codec 1.0.0 computes it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x_BDT: Tensor) -> Tensor:
        """(B, D, T) -> (B, D, T)."""
        return x_BDT + torch.sin(self.alpha * x_BDT).square() / (self.alpha + 1e-9)
