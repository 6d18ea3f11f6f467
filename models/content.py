"""Content tokens of voice conversion: the first codebook of a codec, at the frames of another one.

Shapes: S content tokens, T frames of the codec that makes the waveform.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.codecs.interface import Codec, Tokenizer
from models.identity import source_frame
from models.prompt import codes_of, resampled


class Content:
    """Encodes recordings to content tokens, and aligns these with another codec's frames."""

    def __init__(self, codec: Codec, tokenizer: Tokenizer | None = None) -> None:
        """`codec` makes the waveform; without a `tokenizer` its own first codebook is the content."""
        self.codec, self.tokenizer = codec, codec if tokenizer is None else tokenizer
        self.own = tokenizer is None
        self.identity = replace(self.tokenizer.identity, n_codebooks=1)

    def encode(self, wave_T: Tensor) -> Tensor:
        """Content tokens (S,) of a recording at the codec's rate."""
        wave_T = resampled(wave_T, self.codec.sample_rate, self.tokenizer.sample_rate)
        return codes_of(wave_T, self.tokenizer)[0]

    def aligned(self, tokens_S: Tensor, frames: int | None = None) -> Tensor:
        """One token for each of `frames` frames of the codec, (T,); None: as many as the tokens' length gives, at least
        one.
        """
        source, target = self.identity, self.codec.identity
        if frames is None:
            hops, rates = source.hop_length * target.sample_rate, target.hop_length * source.sample_rate
            frames = max(1, len(tokens_S) * hops // rates)
        read = [source_frame(frame, target, source, len(tokens_S)) for frame in range(frames)]
        return tokens_S[torch.tensor(read, device=tokens_S.device)]
