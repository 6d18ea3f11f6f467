"""A tiny codec with random weights, and waves that differ from row to row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.dac import network as convolutional
from models.codecs.dac.network import ConvolutionalConfig, build_trainable
from models.codecs.interface import Codec
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


@pytest.fixture(scope="session")
def tiny_network() -> MillNetwork:
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


@pytest.fixture(scope="session")
def tiny_directory(tiny_network: MillNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("codec") / "tiny"
    save_directory(tiny_network, directory, "tiny", "1")
    return directory


@pytest.fixture(scope="session")
def headed_network(tiny_network: MillNetwork) -> MillNetwork:
    """The same with a waveform head that does something."""
    torch.manual_seed(1)
    head = HeadConfig(channels=16, blocks=2, expansion=2)
    network = MillNetwork(replace(TINY, griffin_lim_start="peaks", head=head))
    network.load_state_dict({**network.state_dict(), **tiny_network.state_dict()})
    assert network.head is not None
    torch.nn.init.normal_(network.head.leave.weight, std=0.1)
    return network


@pytest.fixture(scope="session")
def headed_directory(headed_network: MillNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("codec") / "headed"
    save_directory(headed_network, directory, "tiny", "2")
    return directory


@pytest.fixture(scope="session")
def convolutional_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = ConvolutionalConfig(16_000, (2, 4, 5, 8), 3, 16, 4, encoder_channels=2, decoder_channels=32)
    directory = tmp_path_factory.mktemp("codec") / "convolutional"
    convolutional.save_directory(build_trainable(config), config, directory, "tiny", "1")
    return directory


@pytest.fixture(params=["pcm-16khz", "mill-16khz", "tiny", "headed", "convolutional"])
def codec(
    request: pytest.FixtureRequest,
    tiny_directory: Path,
    headed_directory: Path,
    convolutional_directory: Path,
) -> Codec:
    """Every codec the contract must hold for."""
    made = {
        "tiny": str(tiny_directory),
        "headed": str(headed_directory),
        "convolutional": str(convolutional_directory),
    }
    return load_codec(made.get(request.param, request.param))


@pytest.fixture(scope="session")
def sweep() -> Callable[[int, int], Tensor]:
    """(samples, seed) -> a loud, changing sound with noise, (samples,) in [-1, 1]."""

    def make(samples: int, seed: int = 0) -> Tensor:
        draws = torch.Generator().manual_seed(seed)
        step = torch.linspace(0.01, 0.2, samples, dtype=torch.float64) * (1 + seed % 5)
        noise = 0.1 * torch.randn(samples, generator=draws)
        return (0.5 * step.cumsum(0).sin().float() + noise).clamp(-1, 1)

    return make
