"""Reading a directory that transformers wrote, whichever of the codecs it holds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from models.codecs import files
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
    known = KINDS[kind]
    model = _read(known, directory).float().eval().requires_grad_(False).to(device)
    rate, hop, levels, size, channels = known.sizes(model.config)
    with (directory / files.WEIGHTS).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    named = (f"{kind.replace('_', '-')}-{rate // 1000}khz", "hub", digest, rate, hop)
    try:
        return known.codec(model, TokenIdentity(*named, levels, size), TokenIdentity(*named, 0, 0, channels))
    except ValueError as error:
        raise ValueError(f"{directory / files.CONFIG}: {error}") from error


def _read(kind: Kind, directory: Path) -> Any:
    """The model with all of its weights, directions and lengths multiplied out."""
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    refusals = (SafetensorError, StrictDataclassError, RuntimeError, OSError, TypeError, ValueError)

    files.require(directory / files.WEIGHTS)
    try:
        model, report = getattr(transformers, kind.model).from_pretrained(
            directory, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except refusals as error:
        raise ValueError(f"{directory} cannot be read: {' '.join(str(error).split())}") from error
    wrong = {
        name: sorted(map(str, report[name]))
        for name in ("missing_keys", "unexpected_keys", "mismatched_keys")
    }
    if any(wrong.values()):
        described = "; ".join(
            f"{name.replace('_', ' ')} {', '.join(keys)}" for name, keys in wrong.items() if keys
        )
        raise ValueError(f"{directory / files.WEIGHTS} does not fit its {files.CONFIG}: {described}")
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d) and parametrize.is_parametrized(
            module, "weight"
        ):
            parametrize.remove_parametrizations(module, "weight")
    return model
