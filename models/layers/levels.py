"""Heads and masks of networks over the levels of a quantizer.

Shapes: B rows, T frames, Q levels, D channels, V codes, M frames of any rows.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LevelHeads(nn.Module):
    """One linear head for each level, stacked so that each row can have its own."""

    def __init__(self, n_levels: int, dim: int, n_codes: int) -> None:
        super().__init__()
        self.weight_QVD = nn.Parameter(torch.randn(n_levels, n_codes, dim) * 0.02)
        self.bias_QV = nn.Parameter(torch.zeros(n_levels, n_codes))

    def forward(self, hidden_BTD: Tensor, level: Tensor | int) -> Tensor:
        """Return logits (B, T, V) of each row's level (int64, (B,)) or of one level for all rows."""
        if isinstance(level, int):
            return F.linear(hidden_BTD, self.weight_QVD[level], self.bias_QV[level])
        # A matrix product rather than baddbmm: autocast then chooses its type as for the other layers.
        return hidden_BTD @ self.weight_QVD[level].transpose(1, 2) + self.bias_QV[level][:, None]

    def each(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return logits (..., V) of one part (..., D) for each level."""
        # Indexing level by level would make a gradient of the size of all levels for each of them.
        heads = zip(parts, self.weight_QVD.unbind(), self.bias_QV.unbind(), strict=True)
        return [F.linear(part, weight_VD, bias_V) for part, weight_VD, bias_V in heads]


def by_level(
    heads: Callable[[Sequence[Tensor]], Sequence[Tensor]], n_levels: int, states_MD: Tensor, levels_M: Tensor
) -> Tensor:
    """Return logits (M, V) of frames that have their own levels (int64).

    `heads` maps the frames of each level to their logits. A level may have no frame, and has a gradient all the same in
    every step. Waits for the device once.
    """
    order_M = levels_M.argsort(stable=True)
    counts_Q = levels_M.bincount(minlength=n_levels)
    parts = torch.split(states_MD[order_M], counts_Q.tolist())
    sorted_MV = torch.cat([*heads(parts)])
    return sorted_MV[order_M.argsort()]


def hidden_codes(n_levels: int, masked_BT: Tensor, prompt_mask_BT: Tensor, levels_B: Tensor) -> Tensor:
    """Return bool (B, T, Q), true where a code is replaced by the mask.

    The level of each row is hidden where `masked_BT`, the levels above it everywhere but in the prompt.
    """
    level_Q = torch.arange(n_levels, device=masked_BT.device)
    current_B1Q = (level_Q == levels_B[:, None])[:, None]
    above_B1Q = (level_Q > levels_B[:, None])[:, None]
    return (current_B1Q & masked_BT[..., None]) | (above_B1Q & ~prompt_mask_BT[..., None])
