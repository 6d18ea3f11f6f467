"""Tiny codecs with random weights, and waves that differ from row to row."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec, load_codec_directory
from models.codecs.dac import network as convolutional
from models.codecs.dac.network import ConvolutionalConfig, build_trainable
from models.codecs.interface import Codec
from models.codecs.maskgct_acoustic import codec as maskgct_acoustic
from models.codecs.maskgct_acoustic.codec import MaskGCTAcousticCodec
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig, MaskGCTAcousticNetwork
from models.codecs.mill.codec import save_directory
from models.codecs.mill.head import HeadConfig
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.speechtokenizer import codec as speechtokenizer
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork
from models.codecs.strided_encoder import encoder_frames
from models.codecs.transformers.encodec import ChunkedEncodecCodec
from models.codecs.transformers.example import MODELS
from models.codecs.transformers.xcodec2 import XCodec2

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


@pytest.fixture(scope="session")
def maskgct_acoustic_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = MaskGCTAcousticConfig(
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
    network = MaskGCTAcousticNetwork(config)
    torch.nn.init.normal_(network.backbone.enter.weight, std=0.3)
    directory = tmp_path_factory.mktemp("codec") / "maskgct_acoustic"
    maskgct_acoustic.save_directory(network, directory, "tiny", "1")
    return directory


@pytest.fixture(scope="session")
def speechtokenizer_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = SpeechTokenizerConfig(
        ratios=(5, 4, 2),
        n_codebooks=3,
        codebook_size=16,
        channels=2,
        latent_channels=16,
        semantic_channels=12,
        activation="snake",
    )
    network = SpeechTokenizerNetwork(config)
    torch.nn.init.normal_(network.quantizer.codebooks_QVD, std=0.1)
    directory = tmp_path_factory.mktemp("codec") / "speechtokenizer"
    speechtokenizer.save_directory(network, directory, "tiny", "1")
    return directory


@pytest.fixture(scope="session")
def hub_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a tiny model of transformers -> its directory, made once."""
    place, made = tmp_path_factory.mktemp("hub"), {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            made[name] = place / name
            MODELS[name]().save_pretrained(made[name])
        return made[name]

    return make


OURS = (
    "pcm-16khz",
    "mill-16khz",
    "tiny",
    "headed",
    "convolutional",
    "maskgct_acoustic",
    "speechtokenizer",
)
OWN_COUNTS: dict[type, Callable[[Any, int], int]] = {
    MaskGCTAcousticCodec: lambda codec, samples: encoder_frames(samples, codec.network.config.ratios),
    ChunkedEncodecCodec: lambda codec, samples: codec.frames(samples),
    XCodec2: lambda codec, samples: samples // codec.hop_length + 1 if samples else 0,
}
"""Codecs whose frames are not the samples divided by the hop, rounded up: (codec, samples) -> frames."""


@pytest.fixture(scope="session", params=[*OURS, *MODELS])
def loaded(request: pytest.FixtureRequest, hub_directory: Callable[[str], Path]) -> Codec:
    """Every codec the contract must hold for, read from a directory where it has one."""
    name = request.param
    if "-" in name:
        return load_codec(name)
    directory = hub_directory(name) if name in MODELS else request.getfixturevalue(f"{name}_directory")
    return load_codec_directory(directory)


@pytest.fixture
def codec(loaded: Codec) -> Codec:
    """One of them, of which a test may change the attributes."""
    return copy.copy(loaded)


@pytest.fixture
def frames_of(codec: Codec) -> Callable[[int], int]:
    """Samples -> frames that the codec makes of them."""
    own = OWN_COUNTS.get(type(codec))
    return lambda samples: -(-samples // codec.hop_length) if own is None else own(codec, samples)


@pytest.fixture
def samples_of(codec: Codec) -> Callable[[int], int]:
    """Frames -> samples that the codec makes of them."""
    if isinstance(codec, ChunkedEncodecCodec):
        return codec.samples
    return lambda frames: frames * codec.hop_length


@pytest.fixture(scope="session")
def sweep() -> Callable[[int, int], Tensor]:
    """(samples, seed) -> a loud, changing sound with noise, (samples,) in [-1, 1]."""

    def make(samples: int, seed: int = 0) -> Tensor:
        draws = torch.Generator().manual_seed(seed)
        step = torch.linspace(0.01, 0.2, samples, dtype=torch.float64) * (1 + seed % 5)
        noise = 0.1 * torch.randn(samples, generator=draws)
        return (0.5 * step.cumsum(0).sin().float() + noise).clamp(-1, 1)

    return make
