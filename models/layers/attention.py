"""Bidirectional self-attention: B rows, N positions, D channels, H heads of d channels."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.rope import Rotation, rotate


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions and a key-padding mask, without biases."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BND: Tensor, rotation: Rotation, mask_BN: Tensor | None) -> Tensor:
        """Attend to the positions where `mask_BN` is true (None: all); each row needs at least one."""
        n_rows, n_positions, dim = x_BND.shape
        qkv = self.qkv(x_BND).view(n_rows, n_positions, 3, self.n_heads, dim // self.n_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mask = None if mask_BN is None else mask_BN[:, None, None]
        query, key = rotate(query, rotation), rotate(key, rotation)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        y: Tensor = self.out(attended.transpose(1, 2).reshape(n_rows, n_positions, dim))
        return y
