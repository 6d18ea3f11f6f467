"""Length masks: B rows, N positions."""

import torch
from torch import Tensor


def length_mask(lengths_B: Tensor, size: int) -> Tensor:
    """Return the (B, size) bool mask that is true at the first `lengths_B` positions of each row."""
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def packed_positions(mask_BN: Tensor) -> Tensor:
    """Number the valid positions of each row from 0, skipping padding wherever it stands (int64)."""
    return (mask_BN.long().cumsum(1) - 1).clamp(min=0)
