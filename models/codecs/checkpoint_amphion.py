"""Parts that Amphion's codecs share (open-mmlab/Amphion@d3de90f): Vocos backbones and factorized codebooks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from models.checkpoints import (
    HUB_WEIGHTS,
    Json,
    StateReader,
    read_json,
    read_tensors,
    take_affine,
    take_normed_weight,
    under,
)
from models.layers.conv_next import KERNEL


def released_files(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a file of weights or the folder that holds it. amphion/MaskGCT has no config.json: the defaults are its
    sizes. ValueError names what is missing.
    """
    if path.is_file():
        return {}, read_tensors(path)
    weights = next((path / name for name in HUB_WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        raise ValueError(f"{path} must hold one of {', '.join(HUB_WEIGHTS)}")
    config = path / "config.json"
    return read_json(config) if config.is_file() else {}, read_tensors(weights)


def take_backbone(
    reader: StateReader, prefix: str, in_dim: int, dim: int, inner_dim: int, n_layers: int
) -> dict[str, Tensor]:
    """The state of a `ConvNeXtBackbone`."""
    state = under("enter", take_affine(reader, f"{prefix}.embed", dim, in_dim, KERNEL))
    state |= under("enter_norm", take_affine(reader, f"{prefix}.norm", dim))
    state |= under("norm", take_affine(reader, f"{prefix}.final_layer_norm", dim))
    for index in range(n_layers):
        block = f"{prefix}.convnext.{index}"
        parts = {"scale": reader.take(f"{block}.gamma", dim)}
        parts |= under("depthwise", take_affine(reader, f"{block}.dwconv", dim, 1, KERNEL))
        parts |= under("norm", take_affine(reader, f"{block}.norm", dim))
        parts |= under("widen", take_affine(reader, f"{block}.pwconv1", inner_dim, dim))
        parts |= under("narrow", take_affine(reader, f"{block}.pwconv2", dim, inner_dim))
        state |= under(f"blocks.{index}", parts)
    return state


def take_codebook(
    reader: StateReader, prefix: str, channels: int, codebook_size: int, codebook_channels: int
) -> dict[str, Tensor]:
    """The state of a `FactorizedCodebook`; the reference's projections are convolutions of width 1."""
    inward = take_normed_weight(reader, f"{prefix}.in_project", codebook_channels, channels, 1)
    outward = take_normed_weight(reader, f"{prefix}.out_project", channels, codebook_channels, 1)
    return {
        "project.weight": inward[..., 0],
        "project.bias": reader.take(f"{prefix}.in_project.bias", codebook_channels),
        "vectors_Vc": reader.take(f"{prefix}.codebook.weight", codebook_size, codebook_channels),
        "expand.weight": outward[..., 0],
        "expand.bias": reader.take(f"{prefix}.out_project.bias", channels),
    }
