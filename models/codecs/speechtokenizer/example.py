"""A tiny SpeechTokenizer with random weights, for contract tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

from models.codecs.speechtokenizer.codec import save_directory
from models.codecs.speechtokenizer.config import SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork

TINY = SpeechTokenizerConfig(
    ratios=(5, 4, 2),
    n_codebooks=3,
    codebook_size=16,
    channels=2,
    latent_channels=16,
    semantic_channels=12,
    activation="snake",
)


def write(directory: Path) -> None:
    """3 levels of 16 codes, hop 40 at 16 kHz."""
    torch.manual_seed(0)
    network = SpeechTokenizerNetwork(TINY)
    torch.nn.init.normal_(network.quantizer.codebooks_QVD, std=0.1)
    save_directory(network, directory, "tiny", "1")
