"""MaskGCT's acoustic codec behind the codec interface."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from models.codecs import files
from models.codecs.interface import Context
from models.codecs.maskgct_acoustic.network import (
    MaskGCTAcousticConfig,
    MaskGCTAcousticDecoder,
    MaskGCTAcousticNetwork,
)
from models.codecs.rows import RowCodec
from models.codecs.strided_encoder import encoder_frames

KIND = "maskgct_acoustic"
NAME = "maskgct-acoustic"


class MaskGCTAcousticCodec(RowCodec):
    """A row has as many frames as the encoder's convolutions make of its samples (`encoder_frames`), as in Amphion:
    one for each whole hop, and seldom one for the rest. What is left over is not coded.
    """

    decode_factor = 4

    def __init__(self, network: MaskGCTAcousticDecoder, name: str, edition: str, weights_sha256: str) -> None:
        """A `network` that is a decoder alone cannot encode."""
        config = network.config
        self._identify(
            (name, edition, weights_sha256),
            (config.sample_rate, config.hop_length),
            (config.n_codebooks, config.codebook_size),
            config.latent_channels,
        )
        self.context = Context(config.encoder_context, network.decoder_context)
        self.network: MaskGCTAcousticDecoder = network.float().eval().requires_grad_(False)
        self.device = network.head.window_F.device
        self.piece_frames = self._usual_piece()

    def _encode_piece(self, wave_T: Tensor) -> Tensor:
        config = self.network.config
        if not isinstance(self.network, MaskGCTAcousticNetwork):
            raise ValueError(f"{self.name} is a decoder alone here; it cannot encode")
        if not encoder_frames(len(wave_T), config.ratios):
            return wave_T.new_zeros(config.latent_channels, 0)
        return self.network.encode(wave_T[None])[0].T

    def _decode_piece(self, latents_DT: Tensor) -> Tensor:
        return self.network.decode(latents_DT.T[None])[0]

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        return self.network.quantizer.encode(latents_DT.T[None], self.n_codebooks)[0]

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        return self.network.quantizer.decode(codes_QT[None], first_level)[0].T


def save_directory(network: nn.Module, directory: Path, name: str = NAME, edition: str = "1") -> None:
    """Write config.json and model.safetensors, float32."""
    files.write_network(network, directory, kind=KIND, name=name, edition=edition)


def load_directory(directory: Path, device: str | torch.device = "cpu") -> MaskGCTAcousticCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    network, stored = files.read_network(directory, MaskGCTAcousticConfig, MaskGCTAcousticNetwork)
    return MaskGCTAcousticCodec(network.to(device), stored.name, stored.edition, stored.sha256)
