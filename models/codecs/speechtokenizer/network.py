"""SpeechTokenizer's networks. Deviation from ZhangXInFD/SpeechTokenizer@30c96fb: weights are not normalised.

B batch, D channels, Q levels, V codes, T samples or frames.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.codecs.quantizer import ResidualQuantizer
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.seanet import Decoder, Encoder


class SpeechTokenizerNetwork(nn.Module):
    """Encoder, quantizer and decoder; no batching rules (see `codec.py`)."""

    def __init__(self, config: SpeechTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.quantizer = ResidualQuantizer(config.n_codebooks, config.codebook_size, config.latent_channels)
        self.decoder = Decoder(config)
        # The reference has no projection where none is needed.
        self.semantic_head = (
            nn.Identity()
            if config.semantic_channels == config.latent_channels
            else nn.Linear(config.latent_channels, config.semantic_channels)
        )

    def quantize(self, latents_BDT: Tensor, levels: slice = slice(None)) -> Tensor:
        """Latents -> codes (B, Q, T) of these levels; the first of them codes the latents themselves."""
        rows, _, frames = latents_BDT.shape
        codes_NQ = self.quantizer.encode(latents_BDT.transpose(1, 2).flatten(0, 1), levels)
        return codes_NQ.view(rows, frames, -1).transpose(1, 2)

    def lookup(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes of k levels from `first_level` on -> vectors (B, D, T)."""
        rows, _, frames = codes_BQT.shape
        vectors_ND = self.quantizer.decode(codes_BQT.transpose(1, 2).flatten(0, 1), first_level)
        return vectors_ND.view(rows, frames, -1).transpose(1, 2)

    def semantic_features(self, codes_BT: Tensor) -> Tensor:
        """Codes of the first level -> features (B, T, semantic_channels) that were taught to be HuBERT's."""
        features_BTD: Tensor = self.semantic_head(self.lookup(codes_BT[:, None]).transpose(1, 2))
        return features_BTD
