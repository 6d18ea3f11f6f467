"""Codebooks of transformers' codecs as quantizers of ours, which round in float32 whatever the networks do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from models.codecs.factorized import FactorizedResidualQuantizer
from models.codecs.quantizer import ResidualQuantizer


def euclidean_codebooks(layers: Iterable[Any]) -> ResidualQuantizer:
    """Layers with `codebook.embed` (V, D) each: EnCodec, X-Codec, Mimi."""
    codebooks_QVD = torch.stack([layer.codebook.embed.detach().float() for layer in layers])
    quantizer = ResidualQuantizer(*codebooks_QVD.shape).to(codebooks_QVD.device)
    quantizer.codebooks_QVD.copy_(codebooks_QVD)
    return quantizer


def projected_codebooks(layers: Iterable[Any]) -> FactorizedResidualQuantizer:
    """Layers with `project_in`, `codebook.embed` and `project_out`: Higgs Audio."""
    layers = list(layers)
    size, inner = layers[0].codebook.embed.shape
    device = layers[0].codebook.embed.device
    quantizer = FactorizedResidualQuantizer(len(layers), layers[0].project_in.in_features, size, inner).to(
        device
    )
    for ours, theirs in zip(quantizer.levels, layers, strict=True):
        ours.project.load_state_dict(theirs.project_in.state_dict())
        ours.expand.load_state_dict(theirs.project_out.state_dict())
        ours.vectors_Vc.data.copy_(theirs.codebook.embed)
    return quantizer.requires_grad_(False)
