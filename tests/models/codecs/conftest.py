"""Tiny codecs with random weights, and waves that differ from row to row."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.codecs.interface import Codec
from models.codecs.maskgct_acoustic.codec import MaskGCTAcousticCodec
from models.codecs.mill import example as mill
from models.codecs.mill.network import MillNetwork
from models.codecs.strided_encoder import encoder_frames
from models.codecs.transformers.encodec import ChunkedEncodecCodec
from models.codecs.transformers.xcodec2 import XCodec2
from models.families import codec_examples

TinyCodec = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny_network() -> MillNetwork:
    return mill.network()


@pytest.fixture(scope="session")
def headed_network() -> MillNetwork:
    return mill.headed_network()


@pytest.fixture(scope="session")
def tiny_directory(tiny_codec: TinyCodec) -> Path:
    return tiny_codec("mill")


@pytest.fixture(scope="session")
def headed_directory(tiny_codec: TinyCodec) -> Path:
    return tiny_codec("mill_headed")


@pytest.fixture(scope="session")
def convolutional_directory(tiny_codec: TinyCodec) -> Path:
    return tiny_codec("dac")


@pytest.fixture(scope="session")
def speechtokenizer_directory(tiny_codec: TinyCodec) -> Path:
    return tiny_codec("speechtokenizer")


OWN_COUNTS: dict[type, Callable[[Any, int], int]] = {
    MaskGCTAcousticCodec: lambda codec, samples: encoder_frames(samples, codec.network.config.ratios),
    ChunkedEncodecCodec: lambda codec, samples: codec.identity.frames(samples),
    XCodec2: lambda codec, samples: samples // codec.hop_length + 1 if samples else 0,
}
"""Codecs whose frames are not the samples divided by the hop, rounded up: (codec, samples) -> frames."""


@pytest.fixture(scope="session", params=["pcm-16khz", "mill-16khz", *codec_examples()])
def codec_source(request: pytest.FixtureRequest, tiny_codec: TinyCodec) -> str:
    """Every codec the contract must hold for: those with a name of their own, and a tiny one of each kind."""
    name: str = request.param
    return name if "-" in name else str(tiny_codec(name))


@pytest.fixture(scope="session")
def loaded(codec_source: str) -> Codec:
    return load_codec(codec_source)


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
        return codec.identity.samples
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
