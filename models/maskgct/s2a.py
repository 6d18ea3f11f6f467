"""MaskGCT "S2A" without semantic tokens: text and the first codebooks -> the finer codebooks of a codec.

After choiHkk/maskgct (prefix variant of arXiv 2409.00750): one level at a time, coarse to fine; the input
of a frame is the sum over all levels of the code's or the mask's embedding. Differences: adaptive norms
start as identity, padding never changes a row's result, each row may have its own level (so every head
gets a gradient in every step and data-parallel training needs no search for unused parameters).
Shapes: B rows, L text tokens, T frames, N = L + T, Q levels (codebooks), D channels, V codes.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from models.layers.checks import check_transformer_sizes
from models.layers.feed_forward import silu_mlp
from models.layers.initialisation import init_normal
from models.layers.levels import LevelHeads, hidden_codes
from models.maskgct.code_levels import CodeLevels
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


class MaskGCTS2A(CodeLevels):
    """Predicts the codes of one level at masked frames, given the levels below."""

    def __init__(self, config: MaskGCTS2AConfig) -> None:
        super().__init__()
        self.config = config
        dim, n_levels, n_codes = config.hidden_size, config.n_codebooks, config.codebook_size
        self.trunk = TextPrefixTransformer(
            config.text_vocab_size, dim, config.n_layers, config.n_heads, config.feed_forward_size
        )
        self.n_levels, self.first_level = n_levels, 0
        self.code_table = nn.Embedding(n_levels * (n_codes + 1) + 1, dim)
        self.level_table = nn.Embedding(n_levels, dim)
        self.level_mlp = silu_mlp(dim, 4)
        self.heads = LevelHeads(n_levels, dim, n_codes)
        init_normal(self)

    def condition(self, levels_B: Tensor) -> Tensor:
        """Return the (B, 1, D) vector that tells every frame which level is predicted."""
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
        where_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits of level `levels_B` (int64): (B, T, V), or (M, V) at the true frames of `where_BT`.

        The network sees the levels below at every frame, the level itself where not `masked_BT`, and the
        levels above only where `prompt_mask_BT`. All masks are bool; `speech_mask_BT` and `text_mask_BL`
        are true at valid positions. `times_B` in (0, 1]: diffusion time (1: all is masked).
        """
        hidden_BTQ = hidden_codes(codes_BTQ.shape[-1], masked_BT, prompt_mask_BT, levels_B)
        speech_BTD = self.embed_codes(codes_BTQ, hidden_BTQ) + self.condition(levels_B)
        text_BLD = self.trunk.embed_text(text_BL)
        hidden = self.trunk(
            text_BLD, text_mask_BL, speech_BTD, speech_mask_BT, times_B, positions_BN, where_BT
        )
        return (
            self.logits(hidden, levels_B) if where_BT is None else self.logits_at(hidden, levels_B, where_BT)
        )
