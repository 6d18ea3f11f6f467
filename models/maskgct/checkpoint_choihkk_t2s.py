"""Checkpoints of choiHkk/maskgct `MaskGCT_T2S` (owner/name@commit: choiHkk/maskgct@6048485)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.checkpoints import StateReader, filled, read_config
from models.maskgct.checkpoint_diff_llama import read_text_prefix
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig

DEFAULTS = {
    "hidden_size": 1024,
    "num_layers": 16,
    "num_heads": 16,
    "codebook_size": 1024,
    # A training setting, and one that the reference never reads: neither is part of the network.
    "cfg_scale": 0.2,
    "cond_dim": 1024,
}


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference."""
    given = read_config(reader.source, config, ["vocab_size"], DEFAULTS)
    dim, n_codes = given["hidden_size"], given["codebook_size"]
    module = MaskGCTT2S(
        MaskGCTT2SConfig(given["vocab_size"], n_codes, dim, given["num_layers"], given["num_heads"], 4 * dim)
    )
    tables = [reader.take("cond_emb.weight", n_codes + 1, dim), reader.take("mask_emb.weight", 1, dim)]
    state = {
        "code_table.weight": torch.cat(tables),
        "head.weight": reader.take("to_logit.weight", n_codes, dim),
        "head.bias": reader.take("to_logit.bias", n_codes),
    }
    state |= read_text_prefix(reader, given["vocab_size"], dim, given["num_layers"], "cond_mlp")
    return filled(module, state, reader)
