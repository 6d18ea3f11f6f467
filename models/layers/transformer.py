"""Non-causal transformer with adaptive norms: B rows, N positions, D channels, M positions of any rows."""

from torch import Tensor, nn

from models.layers.attention import AttentionContext, Packed, Padded, SelfAttention
from models.layers.feed_forward import SwiGLU
from models.layers.norms import AdaptiveRMSNorm
from models.layers.packing import Packing
from models.layers.time_embedding import TimeEmbedding


class Block(nn.Module):
    """Pre-norm attention and feed-forward with residuals."""

    def __init__(self, dim: int, n_heads: int, feed_forward_dim: int, layer: int) -> None:
        super().__init__()
        self.attention_norm = AdaptiveRMSNorm(dim, dim)
        self.attention = SelfAttention(dim, n_heads, layer)
        self.feed_forward_norm = AdaptiveRMSNorm(dim, dim)
        self.feed_forward = SwiGLU(dim, feed_forward_dim)

    def forward(
        self, x_BND: Tensor, time_BD: Tensor, context: AttentionContext, rows_M: Tensor | None = None
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D), see SelfAttention and AdaptiveRMSNorm."""
        x = x_BND + self.attention(self.attention_norm(x_BND, time_BD, rows_M), context)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x, time_BD, rows_M))
        return y


class NonCausalTransformer(nn.Module):
    """A stack of blocks and a final norm, all conditioned on a diffusion time."""

    def __init__(self, dim: int, n_layers: int, n_heads: int, feed_forward_dim: int) -> None:
        super().__init__()
        self.head_dim = dim // n_heads
        self.time = TimeEmbedding(dim)
        self.blocks = nn.ModuleList(Block(dim, n_heads, feed_forward_dim, layer) for layer in range(n_layers))
        self.norm = AdaptiveRMSNorm(dim, dim)

    def forward(self, x_BND: Tensor, times_B: Tensor, mask_BN: Tensor, positions_BN: Tensor | None) -> Tensor:
        """Map (B, N, D) to (B, N, D).

        `mask_BN` (bool) is true at valid positions; what stands elsewhere has no influence on them.
        `positions_BN` (int64) default to numbering each row's valid positions from 0, so that a row
        gives the same result wherever its padding stands.
        """
        return self.run(x_BND, times_B, Padded.rotary(mask_BN, self.head_dim, positions_BN))

    def at(self, x_BND: Tensor, times_B: Tensor, mask_BN: Tensor, where_BN: Tensor) -> Tensor:
        """Map (B, N, D) to (M, D) at the true positions of `where_BN`, row after row, with no work for padding.

        `where_BN` (bool) may be true at valid positions only.
        """
        packing = Packing(mask_BN)
        states_1MD = self.run(packing.pack(x_BND), times_B, self.packed(packing))
        return states_1MD[packing.pack(where_BN)]

    def packed(self, packing: Packing) -> Packed:
        """The context that `run` needs for packed rows; it stays the same over the steps of a sampler."""
        return Packed(packing, self.head_dim)

    def run(self, x_BND: Tensor, times_B: Tensor, context: AttentionContext) -> Tensor:
        """Map the positions of `context`, (B, N, D) or packed (1, M, D); `times_B` may be one for all rows."""
        time_BD = self.time(times_B)
        rows_M = context.packing.rows_M if isinstance(context, Packed) and len(times_B) > 1 else None
        for block in self.blocks:
            x_BND = block(x_BND, time_BD, context, rows_M)
        y: Tensor = self.norm(x_BND, time_BD, rows_M)
        return y
