"""VALL-E's second stage: text, a voice prompt and the levels below -> one level of the codes, all frames at once.

After enhuiz/vall-e@3476d39: a bidirectional transformer whose norms know the level (AdaLN). A row's result does not
depend on its padding or batch.
Shapes: B rows, L text tokens, P prompt frames, T frames, Q levels, D channels, V codes.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from models.layers.norms import LevelNorm
from models.layers.pre_norm import PreNormStack
from models.valle.config import ValleNARConfig
from models.valle.network import ValleNetwork, retention_trunk, transformer


class ValleNAR(ValleNetwork):
    """Predicts a level, given those below it."""

    config: ValleNARConfig

    def __init__(self, config: ValleNARConfig) -> None:
        n_levels = config.n_codebooks - 1
        super().__init__(
            config, (n_levels, config.codebook_size), config.codebook_size, _trunk(config, n_levels)
        )
        self.causal = config.trunk == "causal_retnet"
        self._level_norms = config.trunk == "transformer" and n_levels > 1

    def forward(
        self,
        text_BL: Tensor,
        text_mask_BL: Tensor,
        prompt_BPQ: Tensor,
        prompt_mask_BP: Tensor,
        codes_BTQ: Tensor,
        codes_mask_BT: Tensor,
        levels_B: Tensor,
    ) -> Tensor:
        """Return logits (B, T, V) of each row's level `levels_B`, int64 from 1 to n_codebooks - 1.

        Of `codes_BTQ` a row's levels below that are read; it may hold no others. Masks are true at valid positions.
        """
        codes_BTD = self.code_tables(codes_BTQ[..., : self.config.n_codebooks - 1], levels_B)
        x_BND, mask_BN = self.sequence(
            text_BL, text_mask_BL, prompt_BPQ, prompt_mask_BP, codes_BTD, codes_mask_BT
        )
        hidden_BND = self.whole(x_BND, mask_BN, levels_B - 1 if self._level_norms else None)
        y: Tensor = self.head(hidden_BND[:, -codes_BTQ.shape[1] :])
        return y


def _trunk(config: ValleNARConfig, n_levels: int) -> PreNormStack:
    if config.trunk == "causal_retnet":
        return retention_trunk(config)
    dim = config.hidden_size
    return transformer(
        config, partial(LevelNorm, n_levels, dim) if n_levels > 1 else partial(nn.LayerNorm, dim)
    )
