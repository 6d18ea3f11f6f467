"""Reading a directory that transformers wrote, whichever of the codecs it holds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from models.codecs import files
from models.codecs.pretrained import read_pretrained
from models.codecs.transformers.encodec import encodec
from models.codecs.transformers.mimi import MimiCodec
from models.codecs.transformers.xcodec import XCodec
from models.codecs.transformers.xcodec2 import XCodec2
from models.identity import TokenIdentity

if TYPE_CHECKING:
    from models.codecs.rows import RowCodec


@dataclass(frozen=True)
class Kind:
    """One architecture of transformers."""

    model: str
    """Its class in transformers."""
    sizes: Callable[[Any], tuple[int, int, int, int, int]]
    """configuration -> sample rate, hop, levels, codes of a level, channels of the latents."""
    codec: Callable[[Any, TokenIdentity, TokenIdentity], RowCodec]


KINDS: dict[str, Kind] = {
    "encodec": Kind(
        "EncodecModel",
        lambda c: (c.sampling_rate, c.hop_length, c.num_quantizers, c.codebook_size, c.hidden_size),
        encodec,
    ),
    "mimi": Kind(
        "MimiModel",
        lambda c: (c.sampling_rate, c.frame_size, c.num_quantizers, c.codebook_size, c.hidden_size),
        MimiCodec,
    ),
    "xcodec": Kind(
        "XcodecModel",
        lambda c: (c.sample_rate, c.hop_length, c.num_quantizers, c.codebook_size, c.hidden_size),
        XCodec,
    ),
    "higgs_audio_v2_tokenizer": Kind(
        "HiggsAudioV2TokenizerModel",
        lambda c: (c.sample_rate, c.hop_length, c.num_quantizers, c.codebook_size, c.hidden_size),
        XCodec,
    ),
    "xcodec2": Kind(
        "Xcodec2Model",
        lambda c: (
            c.sampling_rate,
            c.hop_length,
            1,
            math.prod(c.quantization_levels),
            len(c.quantization_levels),
        ),
        XCodec2,
    ),
}
"""`model_type` of config.json -> architecture."""


def load_directory(directory: Path, device: str | torch.device = "cpu") -> RowCodec:
    """The codec in a directory with config.json and model.safetensors, as `save_pretrained` writes it.

    FileNotFoundError or ValueError names the file that is missing or wrong. Such directories have no names of their
    own; the kind and the digest of the weights tell them apart.
    """
    kind = files.kind_of(directory)
    model, digest = read_pretrained(KINDS[kind].model, directory)
    try:
        return codec_of(kind, model.to(device), digest)
    except ValueError as error:
        raise ValueError(f"{directory / files.CONFIG}: {error}") from error


def codec_of(kind: str, model: Any, digest: str) -> RowCodec:
    """The codec of a model of transformers. ValueError for one that its class cannot code with."""
    known = KINDS[kind]
    rate, hop, levels, size, channels = known.sizes(model.config)
    named = (f"{kind.replace('_', '-')}-{rate // 1000}khz", files.HUB_EDITION, digest, rate, hop)
    return known.codec(model, TokenIdentity(*named, levels, size), TokenIdentity(*named, 0, 0, channels))
