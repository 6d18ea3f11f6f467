"""The networks of MaskGCT's acoustic codec. Shapes: B batch, T samples or frames, D latent channels, F bins."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.codecs.factorized import FactorizedResidualQuantizer
from models.codecs.strided_encoder import build_encoder, encoder_context
from models.layers.checks import check_positive
from models.layers.conv_next import ConvNeXtBackbone

_LARGEST_MAGNITUDE = 100.0


@dataclass(frozen=True)
class MaskGCTAcousticConfig:
    """Sizes; the defaults are those of amphion/MaskGCT: 24 kHz, 50 frames per second, 6 kbit/s."""

    sample_rate: int = 24_000
    """Hz."""
    ratios: tuple[int, ...] = (3, 4, 5, 8)
    """Strides of the encoder's blocks; the hop is their product."""
    encoder_channels: int = 96
    """Of the first layer; each block doubles them."""
    latent_channels: int = 256
    n_codebooks: int = 12
    codebook_size: int = 1024
    codebook_channels: int = 8
    hidden_size: int = 512
    """Of the decoder's ConvNeXt blocks."""
    feed_forward_size: int = 4096
    n_layers: int = 30
    fft_length: int = 1920

    def __post_init__(self) -> None:
        check_positive(self, [field.name for field in fields(self) if field.name != "ratios"])
        if not self.ratios or min(self.ratios) < 2:
            raise ValueError(f"ratios is {self.ratios}: needs at least one, each at least 2")
        if self.fft_length < self.hop_length or (self.fft_length - self.hop_length) % 2:
            raise ValueError(
                f"fft_length is {self.fft_length}: must be the hop {self.hop_length} and an even number more"
            )

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.ratios)

    @property
    def encoder_context(self) -> int:
        """Frames to each side that a frame's latents depend on."""
        return encoder_context(self.ratios)


class WaveHead(nn.Module):
    """Magnitudes and phases of spectra -> waves, by overlap-add of Hann windows (Vocos, arXiv 2306.00814)."""

    window_F: Tensor

    def __init__(self, dim: int, fft_length: int, hop_length: int) -> None:
        super().__init__()
        self.fft_length, self.hop_length = fft_length, hop_length
        self.spectrum = nn.Linear(dim, fft_length + 2)
        self.register_buffer("window_F", torch.hann_window(fft_length), persistent=False)

    @property
    def context(self) -> int:
        """Frames to each side whose windows reach into a frame."""
        return ((self.fft_length - self.hop_length) // 2 + self.hop_length - 1) // self.hop_length

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """(B, T, D) -> waves (B, T * hop) float32, not bounded to [-1, 1]."""
        log_magnitude_BTF, phase_BTF = self.spectrum(hidden_BTD).float().chunk(2, dim=-1)
        magnitude_BTF = log_magnitude_BTF.exp().clamp(max=_LARGEST_MAGNITUDE)
        frames_BTF = torch.fft.irfft(torch.polar(magnitude_BTF, phase_BTF), self.fft_length)
        window_F = self.window_F.float()
        wave_BT = self._overlapped(frames_BTF * window_F)
        weight_BT = self._overlapped(window_F.square().expand(1, hidden_BTD.shape[1], -1))
        return wave_BT / weight_BT

    def _overlapped(self, frames_BTF: Tensor) -> Tensor:
        """Sum of the windows, without what sticks out at both ends."""
        length = (frames_BTF.shape[1] - 1) * self.hop_length + self.fft_length
        edge = (self.fft_length - self.hop_length) // 2
        summed_BT = functional.fold(
            frames_BTF.transpose(1, 2), (1, length), (1, self.fft_length), stride=(1, self.hop_length)
        )[:, 0, 0]
        return summed_BT[:, edge : length - edge]


class MaskGCTAcousticDecoder(nn.Module):
    """Quantizer and decoder, which is all that codes need; no batching rules (see `codec.py`)."""

    def __init__(self, config: MaskGCTAcousticConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FactorizedResidualQuantizer(
            config.n_codebooks, config.latent_channels, config.codebook_size, config.codebook_channels
        )
        self.backbone = ConvNeXtBackbone(
            config.latent_channels, config.hidden_size, config.feed_forward_size, config.n_layers
        )
        self.head = WaveHead(config.hidden_size, config.fft_length, config.hop_length)

    @property
    def decoder_context(self) -> int:
        """Frames to each side that a frame's samples depend on."""
        return self.backbone.context + self.head.context

    def decode(self, latents_BTD: Tensor) -> Tensor:
        """Latents, quantized or not -> waves (B, frames * hop)."""
        wave_BT: Tensor = self.head(self.backbone(latents_BTD))
        return wave_BT


class MaskGCTAcousticNetwork(MaskGCTAcousticDecoder):
    """The same with an encoder."""

    def __init__(self, config: MaskGCTAcousticConfig) -> None:
        super().__init__(config)
        self.encoder = build_encoder(config.encoder_channels, config.ratios, config.latent_channels)

    def encode(self, wave_BT: Tensor) -> Tensor:
        """Waves -> latents (B, frames, D), not quantized; `strided_encoder.encoder_frames` frames."""
        latents_BDT: Tensor = self.encoder(wave_BT[:, None])
        return latents_BDT.transpose(1, 2)
