"""Non-causal transformer with adaptive norms: B rows, N positions, D channels."""

from torch import Tensor, nn

from models.layers.attention import SelfAttention
from models.layers.feed_forward import SwiGLU
from models.layers.masks import packed_positions
from models.layers.norms import AdaptiveRMSNorm
from models.layers.packing import Packing
from models.layers.rope import Rotation, rotation_at
from models.layers.time_embedding import TimeEmbedding


class Block(nn.Module):
    """Pre-norm attention and feed-forward with residuals."""

    def __init__(self, dim: int, n_heads: int, feed_forward_dim: int) -> None:
        super().__init__()
        self.attention_norm = AdaptiveRMSNorm(dim, dim)
        self.attention = SelfAttention(dim, n_heads)
        self.feed_forward_norm = AdaptiveRMSNorm(dim, dim)
        self.feed_forward = SwiGLU(dim, feed_forward_dim)

    def forward(self, x_BND: Tensor, time_BD: Tensor, rotation: Rotation, valid: Tensor | Packing) -> Tensor:
        """Map (B, N, D) to (B, N, D), see SelfAttention."""
        x = x_BND + self.attention(self.attention_norm(x_BND, time_BD), rotation, valid)
        y: Tensor = x + self.feed_forward(self.feed_forward_norm(x, time_BD))
        return y


class NonCausalTransformer(nn.Module):
    """A stack of blocks and a final norm, all conditioned on a diffusion time."""

    def __init__(self, dim: int, n_layers: int, n_heads: int, feed_forward_dim: int) -> None:
        super().__init__()
        self.head_dim = dim // n_heads
        self.time = TimeEmbedding(dim)
        self.blocks = nn.ModuleList(Block(dim, n_heads, feed_forward_dim) for _ in range(n_layers))
        self.norm = AdaptiveRMSNorm(dim, dim)

    def forward(self, x_BND: Tensor, times_B: Tensor, mask_BN: Tensor, positions_BN: Tensor | None) -> Tensor:
        """Map (B, N, D) to (B, N, D).

        `mask_BN` (bool) is true at valid positions; what stands elsewhere has no influence on them.
        `positions_BN` (int64) default to numbering each row's valid positions from 0, so that a row
        gives the same result wherever its padding stands.
        """
        positions = packed_positions(mask_BN) if positions_BN is None else positions_BN
        return self._run(x_BND, times_B, rotation_at(positions, self.head_dim), mask_BN)

    def rotation(self, packing: Packing) -> Rotation:
        """Return what `forward_packed` needs; it stays the same over the steps of a sampler."""
        return rotation_at(packing.pack(packed_positions(packing.mask_BN)), self.head_dim)

    def forward_packed(self, x_1MD: Tensor, time_1: Tensor, packing: Packing, rotation: Rotation) -> Tensor:
        """Map the valid positions alone, (1, M, D) to (1, M, D), at one time for all rows."""
        return self._run(x_1MD, time_1, rotation, packing)

    def _run(self, x_BND: Tensor, times_B: Tensor, rotation: Rotation, valid: Tensor | Packing) -> Tensor:
        time_BD = self.time(times_B)
        for block in self.blocks:
            x_BND = block(x_BND, time_BD, rotation, valid)
        y: Tensor = self.norm(x_BND, time_BD)
        return y
