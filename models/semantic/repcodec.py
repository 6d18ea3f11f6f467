"""RepCodec of MaskGCT (arXiv 2409.00750, section 3.1): w2v-BERT features <-> 8-D latents <-> semantic codes.

Deviations from open-mmlab/Amphion@d3de90f: projections are plain, not weight-normalised; padding never changes a row.
B rows, T frames, D channels of the features, c of the latents, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from torch import Tensor, nn

from models.codecs.factorized import FactorizedCodebook, Metric
from models.layers.checks import check_positive
from models.layers.conv_next import ConvNeXtBackbone


@dataclass(frozen=True)
class RepCodecConfig:
    """Sizes; the defaults are those of amphion/MaskGCT."""

    feature_size: int = 1024
    codebook_size: int = 8192
    latent_size: int = 8
    """Channels in which codes are compared."""
    hidden_size: int = 384
    feed_forward_size: int = 2048
    n_layers: int = 12
    """ConvNeXt blocks of the encoder, and of the decoder."""

    def __post_init__(self) -> None:
        check_positive(self, [field.name for field in fields(self)])


class RepCodec(nn.Module):
    """Encoder, one factorized codebook, decoder."""

    def __init__(self, config: RepCodecConfig) -> None:
        super().__init__()
        self.config = config
        sizes = (config.feature_size, config.hidden_size, config.feed_forward_size, config.n_layers)
        self.encoder = ConvNeXtBackbone(*sizes)
        self.encoder_head = nn.Linear(config.hidden_size, config.feature_size)
        self.codebook = FactorizedCodebook(config.feature_size, config.codebook_size, config.latent_size)
        self.decoder = ConvNeXtBackbone(*sizes)
        self.decoder_head = nn.Linear(config.hidden_size, config.feature_size)

    def latents(self, features_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Normalised features -> latents (B, T, c), before quantization."""
        latents_BTc: Tensor = self.codebook.project(self.encoder_head(self.encoder(features_BTD, mask_BT)))
        return latents_BTc

    def encode(
        self, features_BTD: Tensor, mask_BT: Tensor | None = None, metric: Metric = "cosine"
    ) -> tuple[Tensor, Tensor]:
        """Normalised features -> latents (B, T, c) and codes (B, T) int64.

        `metric="euclidean"` is what raoabinav/versaface_autoencoder@434db72 looks latents up by; the codebook was
        trained by direction, so the codes differ.
        """
        latents_BTc = self.latents(features_BTD, mask_BT)
        return latents_BTc, self.codebook.nearest(latents_BTc, metric)

    def embed(self, codes_BT: Tensor) -> Tensor:
        """Codes -> vectors (B, T, D)."""
        return self.codebook.lookup(codes_BT)

    def decode(self, vectors_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Vectors of codes -> features (B, T, D)."""
        features_BTD: Tensor = self.decoder_head(self.decoder(vectors_BTD, mask_BT))
        return features_BTD

    def reconstruct(self, latents_BTc: Tensor, codes_BT: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Latents and their codes -> features (B, T, D); gradients pass the quantization straight to the latents."""
        vectors_BTc = self.codebook.vectors_Vc[codes_BT]
        straight_BTc = latents_BTc + (vectors_BTc - latents_BTc).detach()
        return self.decode(self.codebook.expand(straight_BTc), mask_BT)

    def forward(self, features_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """Normalised features -> features decoded from their codes (B, T, D). The codebook itself gets no gradient."""
        latents_BTc, codes_BT = self.encode(features_BTD, mask_BT)
        return self.reconstruct(latents_BTc, codes_BT, mask_BT)
