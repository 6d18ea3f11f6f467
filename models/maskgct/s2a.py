"""MaskGCT "S2A" without semantic tokens: text and the first codebooks -> the finer codebooks of a codec.

After choiHkk/maskgct (prefix variant of arXiv 2409.00750): one level at a time, coarse to fine; the input
of a frame is the sum over all levels of the code's or the mask's embedding. Differences: adaptive norms
start as identity, padding never changes a row's result, each row may have its own level (so every head
gets a gradient in every step and data-parallel training needs no search for unused parameters).
Shapes: B rows, L text tokens, T frames, N = L + T, Q levels (codebooks), D channels, V codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.checks import check_transformer_sizes
from models.layers.feed_forward import silu_mlp
from models.layers.initialisation import init_normal
from models.layers.levels import LevelHeads, hidden_codes
from models.maskgct.text_prefix import TextPrefixTransformer


@dataclass(frozen=True)
class MaskGCTS2AConfig:
    """Sizes; the defaults other than `text_vocab_size` are those of the published implementation."""

    text_vocab_size: int
    """Rows of the text table, special tokens included."""
    n_codebooks: int = 9
    """Q, codebook 0 included (it can be learned too, though T2S provides it)."""
    codebook_size: int = 1024
    """V. Id V means padding, and alone as a one-frame prompt: no prompt."""
    hidden_size: int = 1024
    n_layers: int = 16
    n_heads: int = 16
    feed_forward_size: int = 4096

    def __post_init__(self) -> None:
        check_transformer_sizes(self)


class MaskGCTS2A(nn.Module):
    """Predicts the codes of one level at masked frames, given the levels below."""

    def __init__(self, config: MaskGCTS2AConfig) -> None:
        super().__init__()
        self.config = config
        dim, n_levels, n_codes = config.hidden_size, config.n_codebooks, config.codebook_size
        self.trunk = TextPrefixTransformer(
            config.text_vocab_size, dim, config.n_layers, config.n_heads, config.feed_forward_size
        )
        # Rows: V + 1 of level 0, V + 1 of level 1, ..., then the one mask that all levels share.
        self.code_table = nn.Embedding(n_levels * (n_codes + 1) + 1, dim)
        self.level_table = nn.Embedding(n_levels, dim)
        self.level_mlp = silu_mlp(dim, 4)
        self.heads = LevelHeads(n_levels, dim, n_codes)
        init_normal(self)

    def embed_codes(self, codes_BTQ: Tensor, hidden_BTQ: Tensor) -> Tensor:
        """Sum the levels' embeddings, the mask's where `hidden_BTQ` (bool), to (B, T, D)."""
        return self._sum_rows(self._table_rows(codes_BTQ, hidden_BTQ))

    def embed_level(self, codes_BT: Tensor, masked_BT: Tensor, level: int) -> Tensor:
        """Embed one level alone, (B, T, D): its term in the sum of `embed_codes`."""
        rows_BT = codes_BT + level * (self.config.codebook_size + 1)
        y: Tensor = self.code_table(torch.where(masked_BT, self.code_table.num_embeddings - 1, rows_BT))
        return y

    def embed_other_levels(self, codes_BTQ: Tensor, level: int) -> Tensor:
        """Sum the levels below and the mask for each level above: what `embed_level` adds to."""
        above_Q = torch.arange(codes_BTQ.shape[-1], device=codes_BTQ.device) > level
        rows_BTQ = self._table_rows(codes_BTQ, above_Q.expand_as(codes_BTQ))
        return self._sum_rows(torch.cat([rows_BTQ[..., :level], rows_BTQ[..., level + 1 :]], dim=-1))

    def _table_rows(self, codes_BTQ: Tensor, hidden_BTQ: Tensor) -> Tensor:
        offsets_Q = torch.arange(codes_BTQ.shape[-1], device=codes_BTQ.device) * (
            self.config.codebook_size + 1
        )
        return torch.where(hidden_BTQ, self.code_table.num_embeddings - 1, codes_BTQ + offsets_Q)

    def _sum_rows(self, rows_BTn: Tensor) -> Tensor:
        # The sum without a (B, T, n, D) tensor in between.
        summed = F.embedding_bag(rows_BTn.flatten(0, 1), self.code_table.weight, mode="sum")
        return summed.view(*rows_BTn.shape[:2], summed.shape[-1])

    def condition(self, levels_B: Tensor) -> Tensor:
        """Return the (B, 1, D) vector that tells every frame which level is asked for."""
        y: Tensor = self.level_mlp(self.level_table(levels_B))[:, None]
        return y

    def forward(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        codes_BTQ: Tensor,
        masked_BT: Tensor,
        prompt_mask_BT: Tensor,
        speech_mask_BT: Tensor,
        levels_B: Tensor,
        times_B: Tensor,
        positions_BN: Tensor | None = None,
    ) -> Tensor:
        """Return logits (B, T, V) of level `levels_B` (int64) at every frame.

        The network sees the levels below at every frame, the level itself where not `masked_BT`, and the
        levels above only where `prompt_mask_BT`. All masks are bool; `speech_mask_BT` and `text_mask_BL`
        are true at valid positions. `times_B` in (0, 1]: diffusion time (1: all is masked).
        """
        hidden_BTQ = hidden_codes(codes_BTQ.shape[-1], masked_BT, prompt_mask_BT, levels_B)
        speech_BTD = self.embed_codes(codes_BTQ, hidden_BTQ) + self.condition(levels_B)
        text_BLD = self.trunk.embed_text(text_BL)
        hidden_BTD = self.trunk(text_BLD, text_mask_BL, speech_BTD, speech_mask_BT, times_B, positions_BN)
        y: Tensor = self.heads(hidden_BTD, levels_B)
        return y
