"""A tiny codec of this kind with random weights, for contract tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

from models.codecs.maskgct_acoustic.codec import save_directory
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig, MaskGCTAcousticNetwork

TINY = MaskGCTAcousticConfig(
    ratios=(3, 4, 5),
    encoder_channels=4,
    latent_channels=16,
    n_codebooks=3,
    codebook_size=16,
    codebook_channels=4,
    hidden_size=16,
    feed_forward_size=24,
    n_layers=2,
    fft_length=240,
)


def write(directory: Path) -> None:
    """3 levels of 16 codes, hop 60 at 24 kHz."""
    torch.manual_seed(0)
    network = MaskGCTAcousticNetwork(TINY)
    torch.nn.init.normal_(network.backbone.enter.weight, std=0.3)
    save_directory(network, directory, "tiny", "1")
