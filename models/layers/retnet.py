"""The RetNet decoder of microsoft/torchscale@0b1f113 (before its change to RMS norms and gated networks)."""

from __future__ import annotations

import math
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.pre_norm import PreNormBlock, PreNormStack
from models.layers.retention import MultiScaleRetention


class SubNormFeedForward(nn.Module):
    """Two linear layers with GELU and a layer norm between, dim -> inner_dim -> dim."""

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, inner_dim), nn.Linear(inner_dim, dim)
        self.norm = nn.LayerNorm(inner_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        y: Tensor = self.down(self.norm(F.gelu(self.up(x))))
        return y


def retnet(
    dim: int, n_layers: int, n_heads: int, inner_dim: int, dropout: float = 0.0, eps: float = 1e-6
) -> PreNormStack:
    """A stack of retention and feed-forward layers with a final norm; its contexts are those of retention.

    `eps` belongs to the norms of the retention heads.
    """
    blocks = [
        PreNormBlock(
            partial(nn.LayerNorm, dim),
            MultiScaleRetention(dim, n_heads, layer, eps),
            SubNormFeedForward(dim, inner_dim),
            dropout=dropout,
        )
        for layer in range(n_layers)
    ]
    stack = PreNormStack(blocks, nn.LayerNorm(dim))
    _initialise(stack, math.sqrt(math.log(2 * n_layers)))
    return stack


def _initialise(stack: PreNormStack, scale: float) -> None:
    """Xavier with a small gain for projections into a layer; `scale` balances what goes to the residual stream."""
    for module in stack.modules():
        if isinstance(module, MultiScaleRetention):
            for inwards in (module.query, module.key, module.value, module.gate):
                nn.init.xavier_uniform_(inwards.weight, gain=2**-2.5)
            nn.init.xavier_uniform_(module.out.weight)
            scaled = [module.value, module.out]
        elif isinstance(module, SubNormFeedForward):
            scaled = [module.up, module.down]
        else:
            continue
        for linear in scaled:
            linear.weight.data.mul_(scale)
