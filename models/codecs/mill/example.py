"""Tiny embedded codecs with random weights, for contract tests and benchmarks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from models.codecs.mill.codec import save_directory
from models.codecs.mill.head import HeadConfig
from models.codecs.mill.network import MillConfig, MillNetwork

TINY = MillConfig(
    n_mels=20,
    n_codebooks=3,
    codebook_size=16,
    latent_channels=12,
    encoder_channels=16,
    encoder_dilations=(1, 2),
    decoder_channels=16,
    decoder_dilations=(1, 2),
    griffin_lim_iterations=4,
)


def network() -> MillNetwork:
    """Linear paths from noise, random codebooks, corrections that do something."""
    torch.manual_seed(0)
    network = MillNetwork(TINY)
    latents_ND = network.fit_linear(torch.randn(4, 6400).cumsum(1).sin())
    scale = latents_ND.std(dim=0)
    for level, codebook_VD in enumerate(network.quantizer.codebooks_QVD):
        codebook_VD.copy_(torch.randn(codebook_VD.shape) * scale * 0.6**level)
    for correction in (network.encoder, network.decoder):
        torch.nn.init.normal_(correction.leave.weight, std=0.1)
    return network


def headed_network() -> MillNetwork:
    """The same with a waveform head that does something."""
    plain = network()
    torch.manual_seed(1)
    head = HeadConfig(channels=16, blocks=2, expansion=2)
    headed = MillNetwork(replace(TINY, griffin_lim_start="peaks", head=head))
    headed.load_state_dict({**headed.state_dict(), **plain.state_dict()})
    assert headed.head is not None
    torch.nn.init.normal_(headed.head.leave.weight, std=0.1)
    return headed


def write(directory: Path) -> None:
    """Write `network`."""
    save_directory(network(), directory, "tiny", "1")


def write_headed(directory: Path) -> None:
    """Write `headed_network`."""
    save_directory(headed_network(), directory, "tiny", "2")
