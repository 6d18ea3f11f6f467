"""Padded batches without their padding: B rows, N positions of which M are valid in all rows together."""

from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from models.layers.masks import length_mask, packed_positions


class Packing:
    """The valid positions of a padded batch, in one row of length M.

    Layers that treat positions alone then do no work for padding; only attention needs rows again.
    Building one waits for the device once.
    """

    def __init__(self, mask_BN: Tensor) -> None:
        self.mask_BN = mask_BN
        self.index_M = mask_BN.flatten().nonzero()[:, 0]
        self.rows_M = self.index_M // mask_BN.shape[1]
        # Padding reads some valid position: attention masks it out, so its value is irrelevant.
        self._spread = (mask_BN.flatten().long().cumsum(0) - 1).clamp(min=0)

    @cached_property
    def starts(self) -> Tensor:
        """Offsets of the rows among the packed positions, the last one's end included, int32 (B + 1,)."""
        return F.pad(self.mask_BN.sum(1).cumsum(0, dtype=torch.int32), (1, 0))

    @cached_property
    def lengths(self) -> list[int]:
        """Valid positions of each row. Waits for the device once."""
        found: list[int] = self.mask_BN.sum(1).tolist()
        return found

    def pack(self, x_BN: Tensor) -> Tensor:
        """Map (B, N, ...) to (1, M, ...)."""
        return x_BN.flatten(0, 1).index_select(0, self.index_M)[None]

    def unpack(self, x_1M: Tensor) -> Tensor:
        """Map (1, M, ...) to (B, N, ...); what stands at padding is arbitrary but finite."""
        return x_1M[0].index_select(0, self._spread).view(*self.mask_BN.shape, *x_1M.shape[2:])


class LeftAligned:
    """The valid positions of each row moved to its beginning: B rows, M positions of the longest row.

    A row then starts at position 0 and its padding stands behind it, wherever it stood before. Building one waits for
    the device once.
    """

    def __init__(self, mask_BN: Tensor) -> None:
        self.lengths_B = mask_BN.sum(1)
        size = int(self.lengths_B.max())
        self.mask_BM = length_mask(self.lengths_B, size)
        self._from_BM = mask_BN.long().argsort(dim=1, descending=True, stable=True)[:, :size]
        self._to_BN = packed_positions(mask_BN)

    def align(self, x_BN: Tensor) -> Tensor:
        """Map (B, N, ...) to (B, M, ...)."""
        return _gathered(x_BN, self._from_BM)

    def restore(self, x_BM: Tensor) -> Tensor:
        """Map (B, M, ...) to (B, N, ...); what stands at padding is arbitrary but finite."""
        return _gathered(x_BM, self._to_BN)


def _gathered(x_BN: Tensor, index_BM: Tensor) -> Tensor:
    return x_BN[torch.arange(len(x_BN), device=x_BN.device)[:, None], index_BM]


def rows_to_positions(rows: int, *sizes: int, device: torch.device) -> Tensor:
    """Return (rows, sum(sizes)) int64: where each position is in cat([part.flatten(0, 1) for part in parts]).

    The parts are (rows, size, ...) each, and a row's positions are those of its parts, one after another.
    """
    offsets = [rows * sum(sizes[:index]) for index in range(len(sizes))]
    parts = [
        offset + torch.arange(rows * size, device=device).view(rows, size)
        for offset, size in zip(offsets, sizes, strict=True)
    ]
    return torch.cat(parts, dim=1)
