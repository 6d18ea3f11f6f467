"""MaskGCT's S2A (arXiv 2409.00750, section 3.2): semantic tokens and the first codebooks -> the finer codebooks.

After open-mmlab/Amphion@d3de90f `MaskGCT_S2A`: one level at a time, coarse to fine. Every frame has a semantic token,
whose embedding is added to the frame's input (no prefix), in the prompt as well. Differences as in `s2a.py`.
Shapes: B rows, T frames, Q levels (codebooks), D channels, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor, nn

from models.layers.checks import check_heads, check_positive
from models.layers.feed_forward import silu_mlp
from models.layers.initialisation import init_normal
from models.layers.levels import LevelHeads, hidden_codes
from models.layers.transformer import NonCausalTransformer
from models.maskgct.code_levels import CodeLevels


@dataclass(frozen=True)
class MaskGCTSemanticS2AConfig:
    """Sizes; the defaults are those of amphion/MaskGCT's `s2a_model_full`, but for `first_level`."""

    semantic_vocab_size: int = 8192
    """Ids of the semantic tokenizer."""
    n_codebooks: int = 12
    """Q. With 1 it is the published 1-layer network."""
    codebook_size: int = 1024
    """V."""
    hidden_size: int = 1024
    n_layers: int = 16
    n_heads: int = 16
    feed_forward_size: int = 4096
    first_level: int = 0
    """Levels below are always given. The published full network has 1: its 1-layer network makes level 0."""

    def __post_init__(self) -> None:
        check_positive(self, [field.name for field in fields(self) if field.name != "first_level"])
        check_heads(self, rotary=True)
        if not 0 <= self.first_level < self.n_codebooks:
            raise ValueError(
                f"first_level is {self.first_level}; it must be from 0 to {self.n_codebooks - 1}, "
                f"the last of {self.n_codebooks} codebooks"
            )


class MaskGCTSemanticS2A(CodeLevels):
    """Predicts the codes of one level at masked frames, given the semantic tokens and the levels below."""

    def __init__(self, config: MaskGCTSemanticS2AConfig) -> None:
        super().__init__()
        self.config = config
        dim, n_levels, n_codes = config.hidden_size, config.n_codebooks, config.codebook_size
        self.n_levels, self.first_level = n_levels, config.first_level
        self.transformer = NonCausalTransformer(
            dim, config.n_layers, config.n_heads, config.feed_forward_size
        )
        self.semantic_table = nn.Embedding(config.semantic_vocab_size, dim)
        self.level_table = nn.Embedding(n_levels, dim)
        self.condition_mlp = silu_mlp(dim, 4)
        self.code_table = nn.Embedding(n_levels * n_codes + 1, dim)
        self.heads = LevelHeads(n_levels - config.first_level, dim, n_codes)
        init_normal(self)

    def condition(self, semantic_BT: Tensor, level: Tensor) -> Tensor:
        """Map semantic ids and the level, (B,) or (1,), to what is added to every frame, (B, T, D)."""
        y: Tensor = self.condition_mlp(self.semantic_table(semantic_BT) + self.level_table(level)[:, None])
        return y

    def forward(
        self,
        semantic_BT: Tensor,
        codes_BTQ: Tensor,
        masked_BT: Tensor,
        prompt_mask_BT: Tensor,
        speech_mask_BT: Tensor,
        levels_B: Tensor,
        times_B: Tensor,
        positions_BT: Tensor | None = None,
        where_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits of level `levels_B` (int64, from `first_level` on).

        They are (B, T, V), or (M, V) at the true frames of `where_BT`.

        The network sees the levels below at every frame, the level itself where not `masked_BT`, and the levels above
        only where `prompt_mask_BT`. All masks are bool; `speech_mask_BT` is true at valid frames. `times_B` in (0, 1]:
        diffusion time (1: all is masked). `positions_BT` overrides the rotary positions, see NonCausalTransformer.
        """
        hidden_BTQ = hidden_codes(codes_BTQ.shape[-1], masked_BT, prompt_mask_BT, levels_B)
        x_BTD = self.embed_codes(codes_BTQ, hidden_BTQ) + self.condition(semantic_BT, levels_B)
        if where_BT is not None:
            hidden_MD = self.transformer.at(x_BTD, times_B, speech_mask_BT, where_BT)
            return self.logits_at(hidden_MD, levels_B, where_BT)
        return self.logits(self.transformer(x_BTD, times_B, speech_mask_BT, positions_BT), levels_B)
