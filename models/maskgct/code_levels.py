"""Codes of several levels as the input of one network.

Shapes: B rows, T frames, Q levels, n of them, D channels, V codes,
M frames of any rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.levels import LevelHeads, by_level


class CodeLevels(nn.Module):
    """Base of S2A networks: a frame's input is the sum over all levels of the code's or the mask's embedding."""

    code_table: nn.Embedding
    """Rows of level 0, of level 1, ..., then the one mask that all levels share."""
    heads: LevelHeads
    """Of the levels from `first_level` on."""
    n_levels: int
    first_level: int
    """The first level that is predicted; those below are always given."""

    @property
    def rows_per_level(self) -> int:
        """Rows of the table that belong to one level."""
        return (self.code_table.num_embeddings - 1) // self.n_levels

    def embed_codes(self, codes_BTQ: Tensor, hidden_BTQ: Tensor) -> Tensor:
        """Sum the levels' embeddings, the mask's where `hidden_BTQ` (bool), to (B, T, D)."""
        return self._sum_rows(self._table_rows(codes_BTQ, hidden_BTQ))

    def embed_level(self, codes_BT: Tensor, masked_BT: Tensor, level: int) -> Tensor:
        """Embed one level alone, (B, T, D): its term in the sum of `embed_codes`."""
        rows_BT = codes_BT + level * self.rows_per_level
        y: Tensor = self.code_table(torch.where(masked_BT, self.code_table.num_embeddings - 1, rows_BT))
        return y

    def embed_other_levels(self, codes_BTQ: Tensor, level: int) -> Tensor:
        """Sum the levels below and the mask for each level above: what `embed_level` adds to."""
        above_Q = torch.arange(codes_BTQ.shape[-1], device=codes_BTQ.device) > level
        rows_BTQ = self._table_rows(codes_BTQ, above_Q.expand_as(codes_BTQ))
        return self._sum_rows(torch.cat([rows_BTQ[..., :level], rows_BTQ[..., level + 1 :]], dim=-1))

    def logits(self, hidden_BTD: Tensor, level: Tensor | int) -> Tensor:
        """Return logits (B, T, V) of each row's level (int64, (B,)) or of one level for all rows."""
        y: Tensor = self.heads(hidden_BTD, level - self.first_level)
        return y

    def logits_at(self, hidden_MD: Tensor, levels_B: Tensor, where_BT: Tensor) -> Tensor:
        """Return logits (M, V) of each row's level, of states at the true frames of `where_BT`, row after row."""
        levels_M = (levels_B - self.first_level)[:, None].expand_as(where_BT)[where_BT]
        return by_level(self.heads.each, len(self.heads.weight_QVD), hidden_MD, levels_M)

    def _table_rows(self, codes_BTQ: Tensor, hidden_BTQ: Tensor) -> Tensor:
        offsets_Q = torch.arange(codes_BTQ.shape[-1], device=codes_BTQ.device) * self.rows_per_level
        return torch.where(hidden_BTQ, self.code_table.num_embeddings - 1, codes_BTQ + offsets_Q)

    def _sum_rows(self, rows_BTn: Tensor) -> Tensor:
        # The sum without a (B, T, n, D) tensor in between.
        if not rows_BTn.shape[-1]:
            return self.code_table.weight.new_zeros(*rows_BTn.shape[:2], self.code_table.embedding_dim)
        summed = F.embedding_bag(rows_BTn.flatten(0, 1), self.code_table.weight, mode="sum")
        return summed.view(*rows_BTn.shape[:2], summed.shape[-1])
