"""The four backbones of SpeechGPT-Gen's perceptual models: transformer or Conformer, plain or with U-Net skips.

All read every position (non-causal) and keep the number of positions; a U-Net here has skip connections but no
down-sampling. Differences to ZhangXInFD/SpeechGPT-Gen-Perceptual-Model: padding never changes a row, the attention
has no dropout, and the transformers rotate keys as well as queries unless `rope_on_keys` is off.
Shapes: B rows, N positions, D channels, C of a condition, M positions that are wanted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from models.layers.attention import AttentionContext, Padded, SelfAttention
from models.layers.checks import check_choice, check_heads, check_positive
from models.layers.conformer import ConformerBlock, ConvolutionModule
from models.layers.feed_forward import mlp
from models.layers.masks import positions_at
from models.layers.norms import AdaptiveRMSNorm
from models.layers.relative_position import RelativePositionBias
from models.layers.rope import rotation_at

NORM_EPS = 1e-12
"""The published norms divide by max(length, 1e-12), which differs only for positions that are all but zero."""

Kind = Literal["transformer", "uformer", "conformer", "uconformer"]
Positions = Literal["rotary", "t5"]


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Sizes of a backbone; the defaults are the published ones."""

    backbone: Kind = "uconformer"
    hidden_size: int = 1024
    n_layers: int = 12
    n_heads: int = 16
    feed_forward_size: int = 4096
    positions: Positions = "rotary"
    """`t5`: a learned bias by distance instead of rotated queries and keys."""
    rope_on_keys: bool = True
    """False repeats a defect of the published transformer and uformer, which rotate the queries alone."""
    conv_expansion: int = 2
    conv_kernel_size: int = 31
    conv_causal: bool = False
    dropout: float = 0.0
    """In feed-forwards and convolutions; the published recipes have 0.1 there, and in the attention as well."""

    def __post_init__(self) -> None:
        sizes = (
            "hidden_size",
            "n_layers",
            "n_heads",
            "feed_forward_size",
            "conv_expansion",
            "conv_kernel_size",
        )
        check_positive(self, sizes)
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        check_choice(self, "backbone", get_args(Kind))
        check_choice(self, "positions", get_args(Positions))
        check_heads(self, rotary=self.positions == "rotary")

    @property
    def n_skips(self) -> int:
        """Blocks at either end that skip connections join; the rest are between them."""
        depth = self.n_layers
        return depth // 2 - (1 - depth % 2) if self.backbone in ("uformer", "uconformer") else 0

    @property
    def convolves(self) -> bool:
        """True if the blocks are Conformer blocks."""
        return self.backbone in ("conformer", "uconformer")


class PostNormBlock(nn.Module):
    """Attention and feed-forward (ELU) with residuals, each normalised after its sum."""

    def __init__(
        self,
        dim: int,
        feed_forward_dim: int,
        attention: SelfAttention,
        norm: Callable[[], nn.Module],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, norm()
        self.feed_forward, self.feed_forward_norm = mlp(dim, feed_forward_dim, nn.ELU(), dropout), norm()

    def forward(
        self,
        x_BND: Tensor,
        context: AttentionContext,
        mask_BN: Tensor | None,
        condition_BC: Tensor | None,
        index_M: Tensor | None = None,
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D), or (M, D); see ConformerBlock. The mask is the context's business here."""
        del mask_BN
        given = () if condition_BC is None else (condition_BC,)
        x = positions_at(x_BND + self.attention(x_BND, context), index_M)
        x = self.attention_norm(x, *given)
        y: Tensor = self.feed_forward_norm(x + self.feed_forward(x), *given)
        return y


class Backbone(nn.Module):
    """A stack of blocks. With `condition_dim` all of them are conditioned on one vector per row."""

    def __init__(self, config: BackboneConfig, condition_dim: int = 0) -> None:
        super().__init__()
        self.config, self.condition_dim = config, condition_dim
        dim, n_skips = config.hidden_size, config.n_skips
        self.head_dim = dim // config.n_heads
        self.blocks = nn.ModuleList(_block(config, layer, condition_dim) for layer in range(config.n_layers))
        self.joins = nn.ModuleList(_join(dim, normalised=not config.convolves) for _ in range(n_skips))
        self.bias: RelativePositionBias | None = None
        if config.positions == "t5":
            self.bias = RelativePositionBias(config.n_heads, math.sqrt(self.head_dim))

    def forward(
        self,
        x_BND: Tensor,
        mask_BN: Tensor | None,
        condition_BC: Tensor | None = None,
        index_M: Tensor | None = None,
    ) -> Tensor:
        """Map (B, N, D) to (B, N, D), or (M, D) at the positions `index_M`.

        `mask_BN` (bool) is true at valid positions, at least one per row and side by side; None where all are valid.
        `index_M` (see `wanted_positions`) are valid positions; the last block does no work for others where it can.
        ValueError for `index_M` of a conditioned backbone.
        """
        if index_M is not None and self.condition_dim:
            raise ValueError("index_M is given; a backbone with a condition returns all positions")
        context = self._context(x_BND, mask_BN)
        skips: list[Tensor] = []
        n_layers, n_skips = len(self.blocks), len(self.joins)
        for layer, block in enumerate(self.blocks):
            if layer >= n_layers - n_skips:
                x_BND = self.joins[layer - (n_layers - n_skips)](torch.cat([x_BND, skips.pop()], dim=-1))
            wanted_M = index_M if layer == n_layers - 1 else None
            x_BND = block(x_BND, context, mask_BN, condition_BC, wanted_M)
            if layer < n_skips:
                skips.append(x_BND)
        return x_BND

    def _context(self, x_BND: Tensor, mask_BN: Tensor | None) -> Padded:
        if self.bias is not None:
            return Padded(mask_BN, None, bias_BHNN=self.bias(x_BND.shape[1]).to(x_BND.dtype))
        positions_BN = torch.arange(x_BND.shape[1], device=x_BND.device)[None]
        if mask_BN is not None:
            positions_BN = positions_BN - mask_BN.int().argmax(1, keepdim=True)
        rotation = rotation_at(positions_BN, self.head_dim)
        return Padded(mask_BN, rotation, rotate_keys=self.config.rope_on_keys)


def _block(config: BackboneConfig, layer: int, condition_dim: int) -> nn.Module:
    dim = config.hidden_size

    def norm() -> nn.Module:
        if condition_dim:
            return AdaptiveRMSNorm(dim, condition_dim, NORM_EPS, shifts=True)
        return nn.LayerNorm(dim) if config.convolves else nn.RMSNorm(dim, NORM_EPS)

    attention = SelfAttention(dim, config.n_heads, layer, out_bias=True)
    if not config.convolves:
        return PostNormBlock(dim, config.feed_forward_size, attention, norm, config.dropout)
    convolution = ConvolutionModule(
        dim,
        config.conv_expansion,
        config.conv_kernel_size,
        causal=config.conv_causal,
        dropout=config.dropout,
    )
    return ConformerBlock(dim, config.feed_forward_size, attention, convolution, norm, config.dropout)


def _join(dim: int, *, normalised: bool) -> nn.Sequential:
    """The layer that joins a skip connection: [x ; skip] -> x."""
    layers: list[nn.Module] = [nn.Linear(2 * dim, dim)]
    if normalised:
        layers.append(nn.RMSNorm(dim, NORM_EPS))
    return nn.Sequential(*layers)
