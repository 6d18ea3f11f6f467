"""Sizes of a SpeechTokenizer."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

from models.layers.checks import check_choice, check_positive

Activation = Literal["elu", "snake"]


@dataclass(frozen=True)
class SpeechTokenizerConfig:
    """Sizes; the defaults are those of speechtokenizer_hubert_avg: 16 kHz, 50 frames per second, 4 kbit/s."""

    sample_rate: int = 16_000
    """Hz."""
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """Strides of the decoder's blocks, in reverse those of the encoder's; the hop is their product."""
    n_codebooks: int = 8
    codebook_size: int = 1024
    channels: int = 64
    """At sample rate; each block of the encoder doubles them."""
    latent_channels: int = 1024
    semantic_channels: int = 768
    """Of the features that the first level was taught with."""
    n_lstm_layers: int = 2
    n_residual_units: int = 1
    residual_kernel_size: int = 3
    dilation_base: int = 2
    bidirectional: bool = True
    """Of the encoder's LSTM; the decoder's reads forwards only."""
    activation: Activation = "elu"

    def __post_init__(self) -> None:
        others = ("ratios", "bidirectional", "activation")
        check_positive(self, [field.name for field in fields(self) if field.name not in others])
        check_choice(self, "activation", get_args(Activation))
        if not self.ratios or min(self.ratios) < 2:
            raise ValueError(f"ratios is {self.ratios}: needs at least one, each at least 2")

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.ratios)

    @property
    def dilations(self) -> list[int]:
        """Of the residual units of a block."""
        return [self.dilation_base**unit for unit in range(self.n_residual_units)]
