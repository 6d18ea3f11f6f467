"""The parts of `Metis8dDecoder` (raoabinav/versaface_autoencoder@434db72) from one state dict or one release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.autoencoder8d.decoder import Decoder8d
from models.checkpoints import Json, StateReader, read_config, under
from models.codecs.checkpoint_amphion import released_files
from models.codecs.maskgct_acoustic.checkpoint_amphion_codec import convert_decoder
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticDecoder
from models.maskgct.checkpoint_amphion import convert_s2a, s2a_files
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A
from models.semantic.checkpoint_amphion_repcodec import convert as convert_repcodec
from models.semantic.repcodec import RepCodec

PARTS = {
    "semantic_codec": ("semantic_codec", released_files, convert_repcodec),
    "s2a_1layer": ("s2a_model/s2a_model_1layer", s2a_files, convert_s2a),
    "s2a_full": ("s2a_model/s2a_model_full", s2a_files, convert_s2a),
    "codec_decoder": ("acoustic_codec/model_1.safetensors", released_files, convert_decoder),
}
"""Prefix of the state dict -> where amphion/MaskGCT has it, and the readers of its format."""


def files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read the parts from a folder that is laid out as amphion/MaskGCT."""
    config: dict[str, Json] = {}
    state: dict[str, Tensor] = {}
    for name, (path, read, _) in PARTS.items():
        config[name], tensors = read(folder / path)
        state |= under(name, tensors)
    return config, state


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build the decoder; the configuration and the weights of each part are below its name in PARTS."""
    given = read_config(reader.source, config, list(PARTS), {})
    made = {
        name: convert_part(given[name], reader.below(name)) for name, (_, _, convert_part) in PARTS.items()
    }
    reader.finish()
    repcodec, first, full, acoustic = made.values()
    assert isinstance(repcodec, RepCodec)
    assert isinstance(first, MaskGCTSemanticS2A)
    assert isinstance(full, MaskGCTSemanticS2A)
    assert isinstance(acoustic, MaskGCTAcousticDecoder)
    return Decoder8d(repcodec, first, full, acoustic).eval()
