"""MaskGCT's T2S: text -> semantic tokens (arXiv 2409.00750), or the first codebook of a codec in their place.

After open-mmlab/Amphion and choiHkk/maskgct: a bidirectional transformer over [text ; speech] that predicts
masked codes. Differences: adaptive norms start as identity, padding may stand anywhere and never changes a row's
result.
Shapes: B rows, L text tokens, T frames, N = L + T, D channels, V codes.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from models.layers.checks import check_transformer_sizes
from models.layers.initialisation import init_normal
from models.maskgct.text_prefix import TextPrefixTransformer


@dataclass(frozen=True)
class MaskGCTT2SConfig:
    """Sizes; the defaults other than `text_vocab_size` are those of the published implementation."""

    text_vocab_size: int
    """Rows of the text table, special tokens included."""
    codebook_size: int = 1024
    """V. Id V means padding, and alone as a one-frame prompt: no prompt."""
    hidden_size: int = 1024
    n_layers: int = 16
    n_heads: int = 16
    feed_forward_size: int = 4096
    padding_code: ClassVar[bool] = True
    """Id V exists."""

    def __post_init__(self) -> None:
        check_transformer_sizes(self)


@dataclass(frozen=True)
class MaskGCTSemanticT2SConfig(MaskGCTT2SConfig):
    """Sizes of the network that writes semantic tokens; the defaults are those of amphion/MaskGCT.

    There is no id for padding: without a prompt there are no frames of it.
    """

    codebook_size: int = 8192
    """V, ids of the semantic tokenizer."""
    hidden_size: int = 1536
    feed_forward_size: int = 6144
    padding_code: ClassVar[bool] = False


class MaskGCTT2S(nn.Module):
    """Predicts semantic tokens, or the codes of codebook 0, at masked frames."""

    def __init__(self, config: MaskGCTT2SConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = TextPrefixTransformer(
            config.text_vocab_size,
            config.hidden_size,
            config.n_layers,
            config.n_heads,
            config.feed_forward_size,
        )
        # Rows: V codes, the padding id V where there is one, the mask.
        n_rows = config.codebook_size + int(config.padding_code) + 1
        self.code_table = nn.Embedding(n_rows, config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.codebook_size)
        init_normal(self)

    def embed_codes(self, codes_BT: Tensor, masked_BT: Tensor) -> Tensor:
        """Map int64 codes in [0, V], V with `padding_code` only, to (B, T, D), the mask's where `masked_BT` (bool)."""
        y: Tensor = self.code_table(torch.where(masked_BT, self.code_table.num_embeddings - 1, codes_BT))
        return y

    def forward(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        codes_BT: Tensor,
        masked_BT: Tensor,
        speech_mask_BT: Tensor,
        times_B: Tensor,
        positions_BN: Tensor | None = None,
        where_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits of the codes: (B, T, V) at every frame, or (M, V) at the true frames of `where_BT`.

        Masks are bool: `text_mask_BL` and `speech_mask_BT` true at valid positions, `masked_BT` true
        where a code is hidden. `times_B` in (0, 1] is the diffusion time (1: all is masked).
        `positions_BN` overrides the rotary positions, see NonCausalTransformer.
        """
        speech_BTD = self.embed_codes(codes_BT, masked_BT)
        text_BLD = self.trunk.embed_text(text_BL)
        hidden = self.trunk(
            text_BLD, text_mask_BL, speech_BTD, speech_mask_BT, times_B, positions_BN, where_BT
        )
        y: Tensor = self.head(hidden)
        return y
