"""Checkpoints of `MaskGCT_T2S` and `MaskGCT_S2A` (open-mmlab/Amphion@d3de90f; amphion/MaskGCT)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints import Json, StateReader, filled, read_config, under
from models.codecs.checkpoint_amphion import released_files
from models.maskgct.checkpoint_diff_llama import read_mlp, read_text_prefix, read_transformer
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S

PHONES = 1024
"""Rows of the phone table, which has this size whatever the configuration says. The last one is padding."""
T2S = {"hidden_size": 1536, "num_layers": 16, "num_heads": 16, "cond_codebook_size": 8192}
S2A = {
    "num_quantizer": 12,
    "hidden_size": 1024,
    "num_layers": 16,
    "num_heads": 16,
    "codebook_size": 1024,
    "cond_codebook_size": 8192,
    "predict_layer_1": True,
}
UNUSED = {
    # A training setting, and one that the reference never reads.
    "cfg_scale": 0.15,
    "cond_dim": 1024,
}


def s2a_files(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a file of weights or the folder that holds it. amphion/MaskGCT has no config.json: the number of levels
    follows from the weights, and its network of several levels leaves the first one to that of one level.
    """
    config, state = released_files(path)
    n_levels = sum(name.startswith("token_emb.") for name in state)
    return {"num_quantizer": n_levels, "predict_layer_1": n_levels == 1, **config}, state


def convert_t2s(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference. ValueError for one without phones."""
    given = read_config(reader.source, config, [], T2S | UNUSED | {"use_phone_cond": True})
    if given["use_phone_cond"] is not True:
        raise ValueError(f"{reader.source}: use_phone_cond is {given['use_phone_cond']}; it must be true")
    dim, n_codes, n_layers = given["hidden_size"], given["cond_codebook_size"], given["num_layers"]
    sizes = (PHONES, n_codes, dim, n_layers, given["num_heads"], 4 * dim)
    tables = [reader.take("cond_emb.weight", n_codes, dim), reader.take("mask_emb.weight", 1, dim)]
    state = {
        "code_table.weight": torch.cat(tables),
        "head.weight": reader.take("to_logit.weight", n_codes, dim),
        "head.bias": reader.take("to_logit.bias", n_codes),
    }
    state |= read_text_prefix(reader, PHONES, dim, n_layers, "cond_mlp")
    return filled(MaskGCTT2S(MaskGCTSemanticT2SConfig(*sizes)), state, reader)


def convert_s2a(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our module with the weights of the reference, of the 1-layer network or the full one."""
    given = read_config(reader.source, config, [], S2A | UNUSED | {"mask_layer_schedule": "linear"})
    dim, n_codes, n_semantic = given["hidden_size"], given["codebook_size"], given["cond_codebook_size"]
    n_levels, n_layers = given["num_quantizer"], given["num_layers"]
    first_level = 0 if given["predict_layer_1"] else 1
    sizes = (n_semantic, n_levels, n_codes, dim, n_layers, given["num_heads"], 4 * dim, first_level)
    tables = [reader.take(f"token_emb.{level}.weight", n_codes, dim) for level in range(n_levels)]
    state = {
        "code_table.weight": torch.cat([*tables, reader.take("mask_emb.weight", 1, dim)]),
        "semantic_table.weight": reader.take("cond_emb.weight", n_semantic, dim),
        "level_table.weight": reader.take("layer_emb.weight", n_levels, dim),
        **under("heads", _heads(reader, range(first_level, n_levels), n_codes, dim)),
        **under("condition_mlp", read_mlp(reader, "diff_estimator.cond_mlp", dim)),
        **under("transformer", read_transformer(reader, dim, n_layers)),
    }
    for kind in ("weight", "bias") if first_level else ():
        reader.ignore(f"to_logits.0.{kind}", "the 1-layer network makes level 0")
    reader.ignore("diff_estimator.embed_tokens.weight", "a table without rows, left over from a base class")
    return filled(MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(*sizes)), state, reader)


def _heads(reader: StateReader, levels: range, n_codes: int, dim: int) -> dict[str, Tensor]:
    return {
        "weight_QVD": torch.stack([reader.take(f"to_logits.{q}.weight", n_codes, dim) for q in levels]),
        "bias_QV": torch.stack([reader.take(f"to_logits.{q}.bias", n_codes) for q in levels]),
    }
