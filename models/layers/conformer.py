"""Conformer block (arXiv 2005.08100) as in voicebox-pytorch.

Shapes: B rows, N positions, D channels, C of a condition, M positions that are wanted.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.attention import AttentionContext, SelfAttention
from models.layers.feed_forward import mlp
from models.layers.masks import positions_at
from models.layers.norms import ChannelNorm


class ConvolutionModule(nn.Module):
    """Gated depthwise convolution over the positions. Padding is read as zeros, like what lies beyond the row."""

    def __init__(
        self, dim: int, expansion: int, kernel_size: int, *, causal: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        inner = dim * expansion
        self.norm = nn.LayerNorm(dim)
        self.gate = nn.Linear(dim, 2 * inner)
        self.depthwise = nn.Conv1d(inner, inner, kernel_size, groups=inner)
        self.channel_norm = ChannelNorm(inner)
        self.out = nn.Linear(inner, dim)
        self.dropout = nn.Dropout(dropout)
        before = kernel_size - 1 if causal else kernel_size // 2
        self.padding = (before, kernel_size - 1 - before)

    def forward(self, x_BND: Tensor, mask_BN: Tensor | None, index_M: Tensor | None = None) -> Tensor:
        """Map (B, N, D) to (B, N, D), or (M, D) at the positions `index_M`, which are valid ones."""
        inner = F.glu(self.gate(self.norm(x_BND)), dim=-1)
        inner = _only(inner, mask_BN).transpose(1, 2)
        convolved = self.depthwise(F.pad(inner, self.padding)).transpose(1, 2)
        convolved = _only(convolved, mask_BN) if index_M is None else positions_at(convolved, index_M)
        y: Tensor = self.dropout(self.out(self.channel_norm(F.silu(convolved))))
        return y


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, the other half, layer norm; `norm` makes those that stand before."""

    def __init__(
        self,
        dim: int,
        feed_forward_dim: int,
        attention: SelfAttention,
        convolution: ConvolutionModule,
        norm: Callable[[], nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.first_norm, self.first = norm(), mlp(dim, feed_forward_dim, nn.SiLU(), dropout)
        self.attention_norm, self.attention = norm(), attention
        self.convolution = convolution
        self.second_norm, self.second = norm(), mlp(dim, feed_forward_dim, nn.SiLU(), dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        x_BND: Tensor,
        context: AttentionContext,
        mask_BN: Tensor | None,
        condition_BC: Tensor | None,
        index_M: Tensor | None = None,
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D); `mask_BN` (bool) is true at valid positions, None where all are.

        With `index_M` (see `wanted_positions`), which excludes a condition, to these valid positions alone, (M, D).
        """
        given = () if condition_BC is None else (condition_BC,)  # plain norms take none
        x = x_BND + 0.5 * self.first(self.first_norm(x_BND, *given))
        x = x + self.attention(self.attention_norm(x, *given), context)
        x = positions_at(x, index_M) + self.convolution(x, mask_BN, index_M)
        y: Tensor = self.norm(x + 0.5 * self.second(self.second_norm(x, *given)))
        return y


def _only(x_BND: Tensor, mask_BN: Tensor | None) -> Tensor:
    return x_BND if mask_BN is None else x_BND * mask_BN[..., None]
