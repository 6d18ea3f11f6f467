"""Pre-norm decoder and encoder blocks of any attention, norm and feed-forward layer.

Shapes: B rows, N positions, D channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from models.layers.attention import AttentionContext
from models.layers.attention_cache import CrossAttention, Memory
from models.layers.retention import RetentionContext

Context = AttentionContext | RetentionContext


class PreNormBlock(nn.Module):
    """Residual branches, each behind a norm of its own: attention (or retention), cross-attention, feed-forward.

    `norm` builds the norms. `attention` maps (x, context). `dropout` is applied to the end of each branch.
    """

    def __init__(
        self,
        norm: Callable[[], nn.Module],
        attention: nn.Module,
        feed_forward: nn.Module,
        *,
        cross_attention: CrossAttention | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm, self.attention = norm(), attention
        self.cross_attention = cross_attention
        self.cross_attention_norm = None if cross_attention is None else norm()
        self.feed_forward_norm, self.feed_forward = norm(), feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x_BND: Tensor, context: Context, levels_B: Tensor | None = None, memory: Memory | None = None
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D). `levels_B` goes to norms that are conditioned on it."""
        y = _normal(self.attention_norm, x_BND, levels_B)
        x_BND = x_BND + self.dropout(self.attention(y, context))
        if self.cross_attention is not None and self.cross_attention_norm is not None:
            y = _normal(self.cross_attention_norm, x_BND, levels_B)
            x_BND = x_BND + self.dropout(self.cross_attention(y, memory))
        y = _normal(self.feed_forward_norm, x_BND, levels_B)
        x_BND = x_BND + self.dropout(self.feed_forward(y))
        return x_BND


class PreNormStack(nn.Module):
    """Blocks one after another, and a final norm if there is one."""

    def __init__(self, blocks: Iterable[PreNormBlock], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.norm = norm

    def forward(
        self, x_BND: Tensor, context: Context, levels_B: Tensor | None = None, memory: Memory | None = None
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D), see PreNormBlock."""
        for block in self.blocks:
            x_BND = block(x_BND, context, levels_B, memory)
        return x_BND if self.norm is None else self.norm(x_BND)


def _normal(norm: nn.Module, x_BND: Tensor, levels_B: Tensor | None) -> Tensor:
    y: Tensor = norm(x_BND) if levels_B is None else norm(x_BND, levels_B)
    return y
