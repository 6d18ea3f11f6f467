"""A tiny DAC with random weights, for contract tests and benchmarks."""

from __future__ import annotations

from pathlib import Path

import torch

from models.codecs.dac.network import ConvolutionalConfig, build_trainable, save_directory

TINY = ConvolutionalConfig(16_000, (2, 4, 5, 8), 3, 16, 4, encoder_channels=2, decoder_channels=32)


def write(directory: Path) -> None:
    """3 levels of 16 codes, hop 320 at 16 kHz."""
    torch.manual_seed(0)
    save_directory(build_trainable(TINY), TINY, directory, "tiny", "1")
