"""Multi-head attention whose rows, positions and masks are the context's business.

Shapes: B rows, N query and M key positions, D channels, H heads of d channels.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.varlen import varlen_attn

from models.layers.masks import packed_positions
from models.layers.packing import Packing
from models.layers.rope import Rotation, rotate, rotation_at

Role = Literal["query", "key"]


_LONG_ROW = {False: 128, True: 300}
"""Positions, in the mean, from which a CPU is faster row by row, without and with gradients (docs/log.md)."""


class AttentionContext(Protocol):
    """Shared by the attention layers of one forward pass: masks and positions."""

    def rotate(self, x_BNHd: Tensor, of: Role) -> Tensor:
        """Apply the positions to queries or keys; the input itself where positions come from elsewhere."""

    def attend(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHd: Tensor, layer: int) -> Tensor:
        """Return (B, N, H, d): what each query reads. `layer` counts the attention layers of the network."""


class Padded:
    """Rows of equal length with padding that is masked out.

    `valid_BN` is true at valid positions, at least one per row; None where all are. `rotation` is None for a network
    without rotary positions. `causal` hides later positions. `bias_BHNN` is added to the scores. `dropout` is the
    share of attention weights that training drops.
    """

    def __init__(
        self,
        valid_BN: Tensor | None,
        rotation: Rotation | None,
        *,
        causal: bool = False,
        bias_BHNN: Tensor | None = None,
        rotate_keys: bool = True,
        dropout: float = 0.0,
    ) -> None:
        self.rotation, self.rotate_keys, self.dropout = rotation, rotate_keys, dropout
        self._causal = causal and valid_BN is None and bias_BHNN is None
        self._mask: Tensor | None = None if valid_BN is None else valid_BN[:, None, None]
        if causal and not self._causal:
            like = valid_BN if valid_BN is not None else bias_BHNN
            assert like is not None
            size = like.shape[-1]
            earlier_NN = torch.ones(size, size, dtype=torch.bool, device=like.device).tril()
            self._mask = earlier_NN if self._mask is None else self._mask & earlier_NN
            # Padding before the first valid position would otherwise read nothing, which has no mean.
            self._mask = self._mask | torch.eye(size, dtype=torch.bool, device=like.device)
        if bias_BHNN is not None:
            mask = self._mask
            self._mask = bias_BHNN if mask is None else bias_BHNN.masked_fill(~mask, -torch.inf)

    @staticmethod
    def rotary(mask_BN: Tensor, head_dim: int, positions_BN: Tensor | None = None) -> Padded:
        """Number each row's valid positions from 0, so that its result does not depend on where padding stands."""
        positions = packed_positions(mask_BN) if positions_BN is None else positions_BN
        return Padded(mask_BN, rotation_at(positions, head_dim))

    def rotate(self, x_BNHd: Tensor, of: Role) -> Tensor:
        """See AttentionContext."""
        if self.rotation is None or (of == "key" and not self.rotate_keys):
            return x_BNHd
        return rotate(x_BNHd, self.rotation)

    def attend(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHd: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """See AttentionContext."""
        return attention(query_BNHd, key_BNHd, value_BNHd, self._mask, self._causal, self.dropout)


class Packed:
    """The valid positions of all rows in one row (1, M, ...).

    On a GPU in half precision, attention reads the packed rows as they are, on a CPU each long row by itself. Elsewhere
    and for short rows it needs padded rows again.
    """

    def __init__(self, packing: Packing, head_dim: int) -> None:
        self.packing = packing
        self.rotation = rotation_at(packing.pack(packed_positions(packing.mask_BN)), head_dim)

    def rotate(self, x_BNHd: Tensor, of: Role) -> Tensor:  # noqa: ARG002
        """See AttentionContext."""
        return rotate(x_BNHd, self.rotation)

    def attend(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHd: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """See AttentionContext."""
        packing = self.packing
        if query_BNHd.is_cuda and query_BNHd.dtype in (torch.bfloat16, torch.float16):
            ends, longest = packing.starts, max(packing.lengths)
            found_MHd = varlen_attn(query_BNHd[0], key_BNHd[0], value_BNHd[0], ends, ends, longest, longest)
            assert isinstance(found_MHd, Tensor)  # a pair only with `return_aux`
            return found_MHd[None]
        mean_length = len(packing.index_M) / len(packing.mask_BN)
        if query_BNHd.device.type == "cpu" and mean_length >= _LONG_ROW[query_BNHd.requires_grad]:
            parts = (torch.split(x, packing.lengths, dim=1) for x in (query_BNHd, key_BNHd, value_BNHd))
            rows = zip(*parts, strict=True)
            return torch.cat([attention(*row) for row in rows], dim=1)
        query, key, value = (packing.unpack(x) for x in (query_BNHd, key_BNHd, value_BNHd))
        return packing.pack(attention(query, key, value, packing.mask_BN[:, None, None]))


def attention(
    query_BNHd: Tensor,
    key_BMHd: Tensor,
    value_BMHd: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention, (B, N, H, d). `mask`: bool (true: may be read) or a float bias, (.., N, M)."""
    y = F.scaled_dot_product_attention(
        query_BNHd.transpose(1, 2),
        key_BMHd.transpose(1, 2),
        value_BMHd.transpose(1, 2),
        attn_mask=mask,
        is_causal=causal,
        dropout_p=dropout,
    )
    return y.transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention. `layer` is its number among the network's attention layers."""

    def __init__(
        self, dim: int, n_heads: int, layer: int = 0, *, qkv_bias: bool = False, out_bias: bool = False
    ) -> None:
        super().__init__()
        self.n_heads, self.layer = n_heads, layer
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.out = nn.Linear(dim, dim, bias=out_bias)

    def forward(self, x_BND: Tensor, context: AttentionContext) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        query, key, value = self.qkv(x_BND).unflatten(-1, (3, self.n_heads, -1)).unbind(2)
        query, key = context.rotate(query, "query"), context.rotate(key, "key")
        y: Tensor = self.out(context.attend(query, key, value, self.layer).flatten(2))
        return y
