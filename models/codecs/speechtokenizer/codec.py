"""SpeechTokenizer behind the codec interface. Its first level alone is a semantic tokenizer: `speechtokenizer:1`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from models.codecs import files
from models.codecs.recurrent import RecurrentCodec
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork

KIND = "speechtokenizer"


class SpeechTokenizerCodec(RecurrentCodec):
    """SpeechTokenizer."""

    def __init__(self, network: SpeechTokenizerNetwork, name: str, edition: str, weights_sha256: str) -> None:
        config = network.config
        self._identify(
            (name, edition, weights_sha256),
            (config.sample_rate, config.hop_length),
            (config.n_codebooks, config.codebook_size),
            config.latent_channels,
        )
        super().__init__(network.float().eval().requires_grad_(False))


def save_directory(
    network: nn.Module, directory: Path, name: str = "speechtokenizer", edition: str = "1"
) -> None:
    """Write config.json and model.safetensors, float32."""
    files.write_network(network, directory, kind=KIND, name=name, edition=edition)


def load_directory(directory: Path, device: str | torch.device = "cpu") -> SpeechTokenizerCodec:
    """Read what `save_directory` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    network, stored = files.read_network(directory, SpeechTokenizerConfig, SpeechTokenizerNetwork)
    return SpeechTokenizerCodec(network.to(device), stored.name, stored.edition, stored.sha256)
