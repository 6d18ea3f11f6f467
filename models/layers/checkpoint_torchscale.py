"""Checkpoints of torchscale's RetNet decoder (microsoft/torchscale@0b1f113, before RMS norms and gated networks)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints import StateReader, filled, read_config, same_tensors, take_renamed
from models.layers.retention import log_decays
from models.layers.retnet import retnet

DEFAULTS = {
    "decoder_embed_dim": 768,
    "decoder_retention_heads": 3,
    "decoder_ffn_embed_dim": 1536,
    "decoder_layers": 12,
    "dropout": 0.0,
    "activation_fn": "gelu",
    "subln": True,
    # Training and output settings, not part of the decoder's layers.
    "recurrent_chunk_size": 512,
    "no_output_layer": True,
}

_PARTS = {
    "attention_norm": "retention_layer_norm",
    "attention.query": "retention.q_proj",
    "attention.key": "retention.k_proj",
    "attention.value": "retention.v_proj",
    "attention.gate": "retention.g_proj",
    "attention.out": "retention.out_proj",
    "feed_forward_norm": "final_layer_norm",
    "feed_forward.up": "ffn.fc1",
    "feed_forward.norm": "ffn.ffn_layernorm",
    "feed_forward.down": "ffn.fc2",
}


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our stack with the weights of the reference."""
    given = read_config(reader.source, config, [], DEFAULTS)
    for key, only in (("activation_fn", "gelu"), ("subln", True), ("no_output_layer", True)):
        if given[key] != only:
            raise ValueError(f"{reader.source}: {key} is {given[key]!r}; only {only!r} is known")
    module = retnet(
        given["decoder_embed_dim"],
        given["decoder_layers"],
        given["decoder_retention_heads"],
        given["decoder_ffn_embed_dim"],
        given["dropout"],
    )
    ignore_constants(reader)
    state = module.state_dict()
    found = take_renamed(same_tensors(names(given["decoder_layers"]), state), state, reader)
    return filled(module, found, reader)


def names(n_layers: int) -> dict[str, str]:
    """Our names of a stack's tensors -> the decoder's."""
    pairs = {"norm": "layer_norm"}
    for layer in range(n_layers):
        pairs |= {f"blocks.{layer}.{ours}": f"layers.{layer}.{theirs}" for ours, theirs in _PARTS.items()}
    return {
        f"{ours}.{kind}": f"{theirs}.{kind}" for ours, theirs in pairs.items() for kind in ("weight", "bias")
    }


def ignore_constants(reader: StateReader, prefix: str = "") -> None:
    """Skip the stored constants of the positions."""
    for name in constants(2, 1):
        reader.ignore(prefix + name, "constants that follow from the sizes")


def constants(dim: int, n_heads: int) -> dict[str, Tensor]:
    """The buffers that the reference stores beside the weights."""
    angles = 10000.0 ** -torch.linspace(0, 1, dim // n_heads // 2)
    return {
        "retnet_rel_pos.angle": angles.repeat_interleave(2),
        "retnet_rel_pos.decay": log_decays(n_heads, angles),
    }
