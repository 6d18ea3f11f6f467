"""Attention over what earlier calls left: the keys and values of earlier positions, or those of an encoder.

Both are contexts of `models.layers.attention`, for sampling: nothing is differentiated through a cache.
Shapes: B rows, N new positions, S slots, L memory positions, D channels, H heads of d channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from models.layers.attention import Role, attention
from models.layers.rope import Rotation, rotate, rotation_at


class DecoderState(Protocol):
    """A decoder's memory of the positions that it has seen; each row has its own number of them."""

    lengths_B: Tensor
    """int64: positions seen."""

    def extend(self, counts_B: Tensor, size: int) -> None:
        """Announce a forward pass over `size` further positions, of which the first `counts_B` of a row are valid."""

    def reorder(self, rows_B: Tensor) -> None:
        """Go on with these rows; a row may be left out or occur several times."""


class Cached:
    """Keys and values of all positions so far, in `n_slots` slots a row whose shapes never change.

    What a forward pass writes behind a row's valid positions is never read, and the next pass overwrites it.
    `head_dim` is given for a network with rotary positions. `reads`: `used` attends to the slots that are in use, `all`
    to every slot under a mask, so that each step has the same shapes (CUDA graphs, `torch.compile`).
    """

    def __init__(
        self,
        n_rows: int,
        n_slots: int,
        device: torch.device,
        *,
        head_dim: int | None = None,
        reads: Literal["used", "all"] = "used",
    ) -> None:
        self.n_slots, self.reads, self.head_dim = n_slots, reads, head_dim
        self.lengths_B = torch.zeros(n_rows, dtype=torch.int64, device=device)
        self._stored: dict[int, tuple[Tensor, Tensor]] = {}
        self._used = 0
        self._rotation: Rotation | None = None

    def extend(self, counts_B: Tensor, size: int) -> None:
        """See DecoderState. ValueError if the slots do not suffice."""
        self._used += size
        if self._used > self.n_slots:
            raise ValueError(f"{self._used} positions do not fit a cache of {self.n_slots} slots")
        device = self.lengths_B.device
        self._slots_BN = self.lengths_B[:, None] + torch.arange(size, device=device)
        self._rows_B1 = torch.arange(len(self.lengths_B), device=device)[:, None]
        self._span = self.n_slots if self.reads == "all" else self._used
        self._mask = (torch.arange(self._span, device=device) <= self._slots_BN[..., None])[:, None]
        if self.head_dim is not None:
            self._rotation = rotation_at(self._slots_BN, self.head_dim)
        self.lengths_B = self.lengths_B + counts_B

    def rotate(self, x_BNHd: Tensor, of: Role) -> Tensor:  # noqa: ARG002
        """See AttentionContext."""
        return x_BNHd if self._rotation is None else rotate(x_BNHd, self._rotation)

    def attend(self, query_BNHd: Tensor, key_BNHd: Tensor, value_BNHd: Tensor, layer: int) -> Tensor:
        """See AttentionContext. Writes the new keys and values, then reads everything up to each query's position."""
        if layer not in self._stored:
            shape = (len(self.lengths_B), self.n_slots, *key_BNHd.shape[2:])
            self._stored[layer] = (key_BNHd.new_zeros(shape), value_BNHd.new_zeros(shape))
        keys_BSHd, values_BSHd = self._stored[layer]
        keys_BSHd[self._rows_B1, self._slots_BN] = key_BNHd
        values_BSHd[self._rows_B1, self._slots_BN] = value_BNHd
        return attention(query_BNHd, keys_BSHd[:, : self._span], values_BSHd[:, : self._span], self._mask)

    def reorder(self, rows_B: Tensor) -> None:
        """See DecoderState."""
        same_count = len(rows_B) == len(self.lengths_B)
        self.lengths_B = self.lengths_B[rows_B]
        for layer, (keys_BSHd, values_BSHd) in self._stored.items():
            moved = keys_BSHd[rows_B, : self._used], values_BSHd[rows_B, : self._used]
            if not same_count:
                keys_BSHd, values_BSHd = (
                    x.new_zeros(len(rows_B), *x.shape[1:]) for x in (keys_BSHd, values_BSHd)
                )
            keys_BSHd[:, : self._used], values_BSHd[:, : self._used] = moved
            self._stored[layer] = (keys_BSHd, values_BSHd)


class Memory:
    """An encoder's output that cross-attention reads. Each layer projects it to keys and values once where no gradient
    is wanted.

    `mask_BL` is true at valid positions, at least one per row; padding may stand anywhere.
    """

    def __init__(self, encoded_BLD: Tensor, mask_BL: Tensor, dropout: float = 0.0) -> None:
        self.encoded_BLD, self.mask_BL, self.dropout = encoded_BLD, mask_BL, dropout
        self._projected: dict[int, tuple[Tensor, Tensor]] = {}
        self._sources_B = torch.arange(len(encoded_BLD), device=encoded_BLD.device)

    def projected(
        self, layer: int, project: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values (B, L, H, d) of a layer; `project` makes them at the first call, or in training at each."""
        if torch.is_grad_enabled():  # kept ones would be missed by a layer that is computed again
            return project(self.encoded_BLD)
        if layer not in self._projected:
            self._projected[layer] = project(self.encoded_BLD)
        return self._projected[layer]

    def rotate(self, x_BNHd: Tensor, of: Role) -> Tensor:  # noqa: ARG002
        """See AttentionContext. The two sequences share no positions."""
        return x_BNHd

    def attend(self, query_BNHd: Tensor, key_BLHd: Tensor, value_BLHd: Tensor, layer: int) -> Tensor:  # noqa: ARG002
        """See AttentionContext."""
        return attention(query_BNHd, key_BLHd, value_BLHd, self.mask_BL[:, None, None], dropout=self.dropout)

    def reorder(self, rows_B: Tensor) -> None:
        """Go on with these rows, as DecoderState. Rows that change places with their copies (beams) cost nothing."""
        sources_B = self._sources_B[rows_B]
        if torch.equal(sources_B, self._sources_B):
            return
        self._sources_B = sources_B
        self.encoded_BLD, self.mask_BL = self.encoded_BLD[rows_B], self.mask_BL[rows_B]
        self._projected = {
            layer: (key[rows_B], value[rows_B]) for layer, (key, value) in self._projected.items()
        }


class CrossAttention(nn.Module):
    """Multi-head attention to a memory, with biases. `layer` is its number among those of the network."""

    def __init__(self, dim: int, memory_dim: int, n_heads: int, layer: int = 0) -> None:
        super().__init__()
        self.n_heads, self.layer = n_heads, layer
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(memory_dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x_BND: Tensor, memory: Memory) -> Tensor:
        """Map (B, N, D) to (B, N, D)."""
        query = self.query(x_BND).unflatten(-1, (self.n_heads, -1))
        key, value = memory.projected(self.layer, self._project)
        y: Tensor = self.out(memory.attend(query, key, value, self.layer).flatten(2))
        return y

    def _project(self, encoded_BLD: Tensor) -> tuple[Tensor, Tensor]:
        key, value = self.key_value(encoded_BLD).unflatten(-1, (2, self.n_heads, -1)).unbind(2)
        return key, value
