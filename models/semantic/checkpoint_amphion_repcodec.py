"""Checkpoints of Amphion's `RepCodec` (open-mmlab/Amphion@d3de90f; amphion/MaskGCT `semantic_codec`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.checkpoints import StateReader, filled, read_config, take_affine, under
from models.codecs.checkpoint_amphion import take_backbone, take_codebook
from models.semantic.repcodec import RepCodec, RepCodecConfig

DEFAULTS = {
    "codebook_size": 8192,
    "hidden_size": 1024,
    "codebook_dim": 8,
    "vocos_dim": 384,
    "vocos_intermediate_dim": 2048,
    "vocos_num_layers": 12,
    "num_quantizers": 1,
    "downsample_scale": 1,
}


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference. ValueError for more than one quantizer or downsampling."""
    given = read_config(reader.source, config, [], DEFAULTS)
    for name in ("num_quantizers", "downsample_scale"):
        if given[name] not in (1, None):
            raise ValueError(f"{reader.source}: {name} is {given[name]}; only 1 is known")
    features, hidden = given["hidden_size"], given["vocos_dim"]
    sizes = (hidden, given["vocos_intermediate_dim"], given["vocos_num_layers"])
    codebook = (given["codebook_size"], given["codebook_dim"])
    module = RepCodec(RepCodecConfig(features, *codebook, *sizes))
    state = under("codebook", take_codebook(reader, "quantizer.quantizers.0", features, *codebook))
    for side in ("encoder", "decoder"):
        state |= under(side, take_backbone(reader, f"{side}.0", features, *sizes))
        state |= under(f"{side}_head", take_affine(reader, f"{side}.1", features, hidden))
    return filled(module, state, reader)
