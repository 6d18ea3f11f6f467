"""SpeechTokenizer behind the codec interface. Its first level alone is a semantic tokenizer: `speechtokenizer:1`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from models.codecs import files
from models.codecs.recurrent import RecurrentCodec
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork
from models.identity import TokenIdentity
from models.settings import dataclass_from

KIND = "speechtokenizer"


class SpeechTokenizerCodec(RecurrentCodec):
    """SpeechTokenizer."""

    def __init__(self, network: SpeechTokenizerNetwork, name: str, edition: str, weights_sha256: str) -> None:
        config = network.config
        rates = (config.sample_rate, config.hop_length)
        self.identity = TokenIdentity(
            name, edition, weights_sha256, *rates, config.n_codebooks, config.codebook_size
        )
        self.latents = TokenIdentity(name, edition, weights_sha256, *rates, 0, 0, config.latent_channels)
        super().__init__(network.float().eval().requires_grad_(False))


def save_directory(
    network: nn.Module, directory: Path, name: str = "speechtokenizer", edition: str = "1"
) -> None:
    """Write config.json and model.safetensors, float32."""
    assert isinstance(network, SpeechTokenizerNetwork)
    files.write(
        directory,
        kind=KIND,
        name=name,
        edition=edition,
        config=asdict(network.config),
        weights=network.state_dict(),
        dtype=torch.float32,
    )


def load_directory(directory: Path, device: str | torch.device = "cpu") -> SpeechTokenizerCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    stored = files.read(directory)
    config = dataclass_from(SpeechTokenizerConfig, stored.config, str(directory / files.CONFIG))
    network = SpeechTokenizerNetwork(config)
    files.fill(network, stored.weights, directory)
    return SpeechTokenizerCodec(network.to(device), stored.name, stored.edition, stored.sha256)
