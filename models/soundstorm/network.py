"""SoundStorm's network: semantic tokens and codes, some of them masked -> the codes of one level.

After ZhangXInFD/SpeechGPT-Gen-Perceptual-Model (arXiv 2305.09636, 2401.13527): a frame's input is the sum of its
semantic embedding and of one embedding a level, the level's own mask embedding where a code is hidden. Differences:
logits are made for one level, and only where they are wanted; padding never changes a row's result.
Shapes: B rows, T frames, Q levels, D channels, V codes, M frames whose logits are wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.backbones import Backbone, BackboneConfig, Kind
from models.layers.checks import check_positive
from models.layers.levels import LevelHeads, by_level, hidden_codes
from models.layers.masks import wanted_positions


@dataclass(frozen=True, kw_only=True)
class SoundStormConfig(BackboneConfig):
    """Sizes; the defaults are the published ones with SpeechTokenizer, whose first level is the semantic one."""

    n_semantic_tokens: int
    """Ids of the semantic tokenizer."""
    n_codebooks: int = 7
    """Q, of the levels that are generated."""
    codebook_size: int = 1024
    """V. Id V is the mask of a level."""
    backbone: Kind = "conformer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["n_semantic_tokens", "n_codebooks", "codebook_size"])


class SoundStormHeads(nn.Module):
    """A linear layer a level, one norm for all, another linear layer a level."""

    def __init__(self, n_levels: int, dim: int, n_codes: int) -> None:
        super().__init__()
        self.projection = LevelHeads(n_levels, dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.logits = LevelHeads(n_levels, dim, n_codes)

    def forward(self, states_BTD: Tensor, level: Tensor | int) -> Tensor:
        """Return logits (B, T, V) of each row's level (int64, (B,)) or of one level for all rows."""
        y: Tensor = self.logits(self.norm(self.projection(states_BTD, level)), level)
        return y

    def each(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return logits (m, V) of m frames (m, D) for each level."""
        normal_MD = self.norm(torch.cat(self.projection.each(parts)))
        return self.logits.each(normal_MD.split([len(part) for part in parts]))

    def at(self, states_MD: Tensor, levels_M: Tensor) -> Tensor:
        """Return logits (M, V) of frames that have their own levels (int64)."""
        return by_level(self.each, len(self.logits.weight_QVD), states_MD, levels_M)


class SoundStorm(nn.Module):
    """Predicts the codes of one level at masked frames, given the levels below."""

    def __init__(self, config: SoundStormConfig) -> None:
        super().__init__()
        self.config = config
        dim, n_levels, n_codes = config.hidden_size, config.n_codebooks, config.codebook_size
        self.semantic_table = nn.Embedding(config.n_semantic_tokens, dim)
        # Rows: V codes and the mask of level 0, V codes and the mask of level 1, ...
        self.code_table = nn.Embedding(n_levels * (n_codes + 1), dim)
        self.backbone = Backbone(config)
        self.heads = SoundStormHeads(n_levels, dim, n_codes)

    @torch.no_grad()
    def set_semantic_embeddings(self, embeddings_VD: Tensor) -> None:
        """Put given embeddings of the semantic tokens in the place of the random ones."""
        self.semantic_table.weight.copy_(embeddings_VD)

    @torch.no_grad()
    def set_code_embeddings(self, embeddings_QVD: Tensor) -> None:
        """Put given embeddings of all codes in the place of the random ones; those of the masks stay."""
        table_QVD = self.code_table.weight.view(self.config.n_codebooks, -1, embeddings_QVD.shape[-1])
        table_QVD[:, : self.config.codebook_size] = embeddings_QVD

    def embed_semantic(self, semantic_BT: Tensor) -> Tensor:
        """Map int64 ids to (B, T, D), those below 0 (the reference's padding) to zeros."""
        embedded_BTD: Tensor = self.semantic_table(semantic_BT.clamp(min=0))
        return embedded_BTD * (semantic_BT >= 0)[..., None]

    def embed_codes(self, codes_BTQ: Tensor, hidden_BTQ: Tensor, first_level: int = 0) -> Tensor:
        """Sum the embeddings of levels from `first_level` on, the mask's where `hidden_BTQ` (bool), to (B, T, D)."""
        n_codes, n_levels = self.config.codebook_size, codes_BTQ.shape[-1]
        levels_Q = torch.arange(first_level, first_level + n_levels, device=codes_BTQ.device)
        rows_BTQ = torch.where(hidden_BTQ, n_codes, codes_BTQ) + levels_Q * (n_codes + 1)
        # The sum without a (B, T, Q, D) tensor in between.
        summed = F.embedding_bag(rows_BTQ.flatten(0, 1), self.code_table.weight, mode="sum")
        return summed.view(*rows_BTQ.shape[:2], summed.shape[-1])

    def forward(
        self,
        semantic_BT: Tensor,
        codes_BTQ: Tensor,
        masked_BT: Tensor,
        prompt_mask_BT: Tensor,
        mask_BT: Tensor | None,
        levels_B: Tensor,
        where_BT: Tensor | None = None,
    ) -> Tensor:
        """Return logits of each row's level (int64): (B, T, V), or (M, V) at the true frames of `where_BT`.

        The network sees the levels below at every frame, the level itself where not `masked_BT`, and the levels above
        only where `prompt_mask_BT`. `mask_BT` is true at valid frames, None where all are. All masks are bool.
        """
        hidden_BTQ = hidden_codes(codes_BTQ.shape[-1], masked_BT, prompt_mask_BT, levels_B)
        x_BTD = self.embed_semantic(semantic_BT) + self.embed_codes(codes_BTQ, hidden_BTQ)
        if where_BT is not None:
            index_M = wanted_positions(where_BT)
            states_MD = self.backbone(x_BTD, mask_BT, index_M=index_M)
            return self.heads.at(states_MD, levels_B[index_M // where_BT.shape[1]])
        y: Tensor = self.heads(self.backbone(x_BTD, mask_BT), levels_B)
        return y
