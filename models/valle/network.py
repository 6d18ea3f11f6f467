"""Shared by both networks of VALL-E: text | separator | voice prompt | separator | codes through one trunk.

Shapes: B rows, L text tokens, P prompt frames, T frames, N = L + P + T + 2 positions, M positions without padding, Q
levels, D channels, V codes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.attention import Padded, SelfAttention
from models.layers.feed_forward import gelu_mlp
from models.layers.packing import LeftAligned
from models.layers.positions import sinusoidal_positions
from models.layers.pre_norm import Context, PreNormBlock, PreNormStack
from models.layers.retention import Chunkwise, Parallel
from models.layers.retnet import retnet
from models.valle.config import ValleConfig


class LevelTables(nn.Module):
    """One embedding table for each level; a frame is the sum over its levels."""

    def __init__(self, n_levels: int, n_codes: int, dim: int) -> None:
        super().__init__()
        self.weight_QVD = nn.Parameter(torch.randn(n_levels, n_codes, dim))

    def forward(self, codes_BTQ: Tensor, below_B: Tensor | None = None) -> Tensor:
        """Map the first levels to (B, T, D); of a row only those below `below_B` (at least 1) if given.

        ValueError for more levels than there are tables.
        """
        if codes_BTQ.shape[-1] > len(self.weight_QVD):
            raise ValueError(f"codes have {codes_BTQ.shape[-1]} levels; the most is {len(self.weight_QVD)}")
        total_BTD = F.embedding(codes_BTQ[..., 0], self.weight_QVD[0])
        for level in range(1, codes_BTQ.shape[-1]):
            term_BTD = F.embedding(codes_BTQ[..., level], self.weight_QVD[level])
            if below_B is not None:
                term_BTD = term_BTD * (level < below_B)[:, None, None]
            total_BTD = total_BTD + term_BTD
        return total_BTD


class ValleNetwork(nn.Module):
    """Embeddings, trunk and head. The sequence of a row has no gaps, wherever the padding of its parts stands."""

    causal = True
    """A position sees those before it only."""

    def __init__(
        self, config: ValleConfig, code_tables: tuple[int, int], n_classes: int, trunk: PreNormStack
    ) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.text_table = nn.Embedding(config.text_vocab_size, dim)
        self.prompt_tables = LevelTables(
            config.prompt_levels, config.codebook_size + config.n_task_tokens, dim
        )
        self.code_tables = LevelTables(*code_tables, dim)
        self.separator_D = nn.Parameter(torch.randn(dim))
        self.trunk = trunk
        self.head = nn.Linear(dim, n_classes)

    def sequence(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        prompt_BPQ: Tensor,
        prompt_mask_BP: Tensor,
        codes_BTD: Tensor,
        codes_mask_BT: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Embeddings (B, N, D) of text, separator, prompt, the separator again, codes; and their mask."""
        separator_B1D = self.separator_D.expand(len(text_BL), 1, -1)
        one_B1 = text_mask_BL.new_ones(len(text_BL), 1)
        prompt_BPD = self.prompt_tables(prompt_BPQ)
        x_BND = torch.cat(
            [self.text_table(text_BL), separator_B1D, prompt_BPD, separator_B1D, codes_BTD], dim=1
        )
        return x_BND, torch.cat([text_mask_BL, one_B1, prompt_mask_BP, one_B1, codes_mask_BT], dim=1)

    def positioned(self, x_BMD: Tensor, first_B1: Tensor | int = 0) -> Tensor:
        """Add the positions that follow `first_B1`; retention has its own."""
        if not self.has_positions:
            return x_BMD
        positions_BM = first_B1 + torch.arange(x_BMD.shape[1], device=x_BMD.device)[None]
        return x_BMD + sinusoidal_positions(positions_BM, x_BMD.shape[-1]).to(x_BMD.dtype)

    def whole(self, x_BND: Tensor, mask_BN: Tensor, levels_B: Tensor | None = None) -> Tensor:
        """Map complete sequences (B, N, D) to (B, N, D); padding may stand anywhere."""
        rows = LeftAligned(mask_BN)
        hidden_BMD = self.trunk(self.positioned(rows.align(x_BND)), self._context(rows), levels_B)
        return rows.restore(hidden_BMD)

    @property
    def has_positions(self) -> bool:
        """True if positions are added to the input."""
        return isinstance(self.trunk.blocks[0].attention, SelfAttention)

    def _context(self, rows: LeftAligned) -> Context:
        if self.has_positions:
            # Padding stands behind each row, where no valid position of a causal network sees it.
            return Padded(None if self.causal else rows.mask_BM, None, causal=self.causal)
        if self.config.retention_chunk:
            return Chunkwise(self.config.retention_chunk, self.config.retention_norm)
        return Parallel(self.config.retention_norm)


def transformer(config: ValleConfig, norm: Callable[[], nn.Module] | None = None) -> PreNormStack:
    """The transformer of both networks; it has no norm behind its last block."""
    dim = config.hidden_size
    return PreNormStack(
        PreNormBlock(
            norm or partial(nn.LayerNorm, dim),
            SelfAttention(dim, config.n_heads, layer, out_bias=True),
            gelu_mlp(dim, 4, config.dropout),
        )
        for layer in range(config.n_layers)
    )


def retention_trunk(config: ValleConfig) -> PreNormStack:
    """RetNet, which is causal."""
    dim = config.hidden_size
    return retnet(dim, config.n_layers, config.n_heads, 4 * dim, config.dropout)
