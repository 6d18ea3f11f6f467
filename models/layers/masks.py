"""Length masks and padding: B rows, N positions, M of all rows that are wanted, `...` any axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def length_mask(lengths_B: Tensor, size: int) -> Tensor:
    """Return the (B, size) bool mask that is true at the first `lengths_B` positions of each row."""
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def packed_positions(mask_BN: Tensor) -> Tensor:
    """Number the valid positions of each row from 0, skipping padding wherever it stands (int64)."""
    return (mask_BN.long().cumsum(1) - 1).clamp(min=0)


def wanted_positions(where_BN: Tensor) -> Tensor:
    """Return the numbers (M, int64) of the true positions, those of all rows counted on. Waits for the device once."""
    return where_BN.flatten().nonzero()[:, 0]


def positions_at(x_BN: Tensor, index_M: Tensor | None) -> Tensor:
    """Return (M, ...), the positions of these numbers; the input itself for None."""
    return x_BN if index_M is None else x_BN.flatten(0, 1).index_select(0, index_M)


def pad_rows(
    rows: Sequence[Tensor], extra: int = 0, fill: float = 0, *, side: Literal["left", "right"] = "right"
) -> tuple[Tensor, Tensor]:
    """Rows (n, ...) of different n as (B, N, ...) and their bool mask (B, N).

    N is the longest row's length plus `extra`. `fill` stands at padding (true for bool rows if it is not 0).
    """
    size = max((len(row) for row in rows), default=0) + extra
    padded = rows[0].new_full((len(rows), size, *rows[0].shape[1:]), fill)
    mask_BN = torch.zeros(len(rows), size, dtype=torch.bool, device=rows[0].device)
    for index, row in enumerate(rows):
        place = slice(0, len(row)) if side == "right" else slice(size - len(row), size)
        padded[index, place] = row
        mask_BN[index, place] = True
    return padded, mask_BN


def mask_rows(values: Tensor, lengths_B: Tensor) -> Tensor:
    """Zero every position of (B, ..., N) at or after its row's length."""
    mask_BN = length_mask(lengths_B.to(values.device), values.shape[-1])
    return values * mask_BN.view(mask_BN.shape[0], *[1] * (values.dim() - 2), mask_BN.shape[1])
