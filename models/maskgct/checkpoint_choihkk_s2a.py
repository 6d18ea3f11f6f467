"""Checkpoints of choiHkk/maskgct `MaskGCT_S2A` (owner/name@commit: choiHkk/maskgct@6048485)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.checkpoints import StateReader, filled, read_config, under
from models.maskgct.checkpoint_diff_llama import read_mlp, read_text_prefix
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig

DEFAULTS = {
    "num_quantizer": 9,
    "hidden_size": 1024,
    "num_layers": 16,
    "num_heads": 16,
    "codebook_size": 1024,
    # Training settings, not part of the network.
    "cfg_scale": 0.15,
    "mask_layer_schedule": "cosine",
    "predict_layer_1": True,
}


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference."""
    given = read_config(reader.source, config, ["vocab_size"], DEFAULTS)
    dim, n_codes, levels = given["hidden_size"], given["codebook_size"], range(given["num_quantizer"])
    sizes = (given["vocab_size"], len(levels), n_codes, dim, given["num_layers"], given["num_heads"], 4 * dim)
    module = MaskGCTS2A(MaskGCTS2AConfig(*sizes))
    tables = [reader.take(f"token_emb.{level}.weight", n_codes + 1, dim) for level in levels]
    state = {
        "code_table.weight": torch.cat([*tables, reader.take("mask_emb.weight", 1, dim)]),
        "level_table.weight": reader.take("layer_emb.weight", len(levels), dim),
        "heads.weight_QVD": torch.stack([reader.take(f"to_logits.{q}.weight", n_codes, dim) for q in levels]),
        "heads.bias_QV": torch.stack([reader.take(f"to_logits.{q}.bias", n_codes) for q in levels]),
    }
    state |= under("level_mlp", read_mlp(reader, "diff_estimator.cond_mlp", dim))
    state |= read_text_prefix(reader, given["vocab_size"], dim, given["num_layers"], "cond_mlp2")
    return filled(module, state, reader)
