"""Speech positions behind a text prefix.

Shapes: B rows, L text and T speech positions, N = L + T, D channels, M speech positions that are wanted.
"""

import torch
from torch import Tensor, nn

from models.layers.feed_forward import silu_mlp
from models.layers.transformer import NonCausalTransformer


class TextPrefixTransformer(nn.Module):
    """A non-causal transformer over [text ; speech] that returns the speech part."""

    def __init__(
        self, text_vocab_size: int, dim: int, n_layers: int, n_heads: int, feed_forward_dim: int
    ) -> None:
        super().__init__()
        self.text_table = nn.Embedding(text_vocab_size, dim)
        self.text_mlp = silu_mlp(dim, 4)
        self.transformer = NonCausalTransformer(dim, n_layers, n_heads, feed_forward_dim)

    def embed_text(self, text_BL: Tensor) -> Tensor:
        """Map int64 token ids to (B, L, D); it depends on nothing else, so a sampler needs it once."""
        y: Tensor = self.text_mlp(self.text_table(text_BL))
        return y

    def forward(
        self,
        text_BLD: Tensor,
        text_mask_BL: Tensor,
        speech_BTD: Tensor,
        speech_mask_BT: Tensor,
        times_B: Tensor,
        positions_BN: Tensor | None = None,
        where_BT: Tensor | None = None,
    ) -> Tensor:
        """Return (B, T, D), or (M, D) at the true positions of `where_BT`, row after row, with no work for padding.

        Masks are bool, true at valid positions; padding may stand on either side. `where_BT` may be true at valid
        positions only. `positions_BN` are for results at all positions.
        """
        x_BND = torch.cat([text_BLD, speech_BTD], dim=1)
        mask_BN = torch.cat([text_mask_BL, speech_mask_BT], dim=1)
        if where_BT is not None:
            where_BN = torch.cat([torch.zeros_like(text_mask_BL), where_BT], dim=1)
            return self.transformer.at(x_BND, times_B, mask_BN, where_BN)
        y: Tensor = self.transformer(x_BND, times_B, mask_BN, positions_BN)
        return y[:, text_BLD.shape[1] :]
