"""Bidirectional self-attention: B rows, N positions, D channels, H heads of d channels."""

from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.packing import Packing
from models.layers.rope import Rotation, rotate


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, without biases."""

    def __init__(self, dim: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x_BND: Tensor, rotation: Rotation, valid: Tensor | Packing) -> Tensor:
        """Map (B, N, D) to (B, N, D), or (1, M, D) to (1, M, D) with a packing.

        `valid`: bool (B, N), true at the positions that may be attended to, at least one a row; or the
        packing of `x_BND`.
        """
        qkv = self.qkv(x_BND).unflatten(-1, (3, self.n_heads, -1))
        query_key = rotate(qkv[:, :, :2], rotation)
        value = qkv[:, :, 2]
        if isinstance(valid, Packing):
            query_key, value = valid.unpack(query_key), valid.unpack(value)
        mask_BN = valid.mask_BN if isinstance(valid, Packing) else valid
        query, key = query_key.unbind(2)
        attended = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attn_mask=mask_BN[:, None, None],
        ).transpose(1, 2)
        if isinstance(valid, Packing):
            attended = valid.pack(attended)
        y: Tensor = self.out(attended.flatten(2))
        return y
