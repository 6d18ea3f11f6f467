"""The manifest of the codecs that transformers ships."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.codecs.transformers.example import MODELS, write
from models.manifest import Family

if TYPE_CHECKING:
    from models.codecs.interface import Codec

KINDS = ("encodec", "mimi", "xcodec", "xcodec2", "higgs_audio_v2_tokenizer")
"""`model_type` of config.json."""


def load_directory(directory: Path, device: str | torch.device = "cpu") -> Codec:
    """Read a directory of the Hub."""
    # The registry of families imports this, and must not import transformers.
    from models.codecs.transformers import load

    return load.load_directory(directory, device)


FAMILY = Family(
    name="transformers",
    codecs=dict.fromkeys(KINDS, load_directory),
    codec_examples={name: partial(write, name) for name in MODELS},
)
