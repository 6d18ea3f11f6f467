"""Checkpoints of VALL-E in the layout of enhuiz/vall-e@3476d39, which e-c-k-e-r/vall-e (2023-08) kept.

The latter exports a network as `fp32.pth`: a dictionary with the state dict under `module`, counters, and the symbol
map under `symmap`. Its tables may have another number of prompt levels, rows for task tokens, and a RetNet for a trunk.
The number of heads is not in the file; it follows from the width: every published size has 64 channels a head.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from models.checkpoints import (
    Json,
    Renamed,
    StateReader,
    filled,
    give_renamed,
    read_config,
    same_tensors,
    take_renamed,
)
from models.layers import checkpoint_torchscale
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.growth import grown
from models.valle.nar import ValleNAR
from models.valle.network import ValleNetwork

Kind = Literal["ar", "nar"]

DEFAULTS = {
    "d_model": 512,
    "n_heads": 8,
    "n_layers": 12,
    "p_dropout": 0.1,
    "prom_levels": 8,
    "resp_levels": None,  # 1 of the first network, 7 of the second
    "tasks": 1,
    "arch": "transformer",
}

FILE = "fp32.pth"
HEAD_DIM = 64
RETNET = "retnet."

_NAMES = {
    "text_table.weight": "text_emb.weight",
    "prompt_tables.weight_QVD": "proms_emb.weight",
    "code_tables.weight_QVD": "resps_emb.weight",
    "separator_D": "sep",
    "head.weight": "classifier.weight",
    "head.bias": "classifier.bias",
}

_BLOCK = {
    "attention.qkv.weight": "attn.block.to_qkv.weight",
    "attention.out.weight": "attn.block.to_out.weight",
    "attention.out.bias": "attn.block.to_out.bias",
    "feed_forward.0.weight": "ffn.block.0.weight",
    "feed_forward.0.bias": "ffn.block.0.bias",
    "feed_forward.3.weight": "ffn.block.3.weight",
    "feed_forward.3.bias": "ffn.block.3.bias",
}


def convert_ar(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build the first network with the weights of the reference."""
    given = read_config(reader.source, config, ["n_tokens"], DEFAULTS)
    if given["resp_levels"] not in (None, 1):
        raise ValueError(f"{reader.source}: resp_levels is {given['resp_levels']}; the first network has 1")
    trunk = _trunk(reader.source, given["arch"], "retnet")
    return _filled(ValleAR(ValleARConfig(**_sizes(given), trunk=trunk)), reader)


def convert_nar(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build the second network with the weights of the reference."""
    given = read_config(reader.source, config, ["n_tokens"], DEFAULTS)
    levels = 1 + (7 if given["resp_levels"] is None else given["resp_levels"])
    trunk = _trunk(reader.source, given["arch"], "causal_retnet")
    return _filled(ValleNAR(ValleNARConfig(**_sizes(given), n_codebooks=levels, trunk=trunk)), reader)


def read_ar(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read an exported first network: the reference's configuration, taken from the shapes, and its state dict.

    `path` is the file, or the folder that holds it as `fp32.pth`.
    """
    return _read(path, "ar")


def read_nar(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read an exported second network, as `read_ar`."""
    return _read(path, "nar")


def read_symbols(path: Path) -> dict[str, int]:
    """The symbol map of an exported network: phone -> text token; empty for a file without one.

    ValueError for one that is no map, or that has tokens beyond the text table.
    """
    stored = _stored(path)
    symbols = stored.get("symmap") or {}
    if not isinstance(symbols, dict) or not all(isinstance(number, int) for number in symbols.values()):
        raise ValueError(f"{path}: 'symmap' holds no map of symbols to numbers")
    rows = _tensors(path, stored)["text_emb.weight"].shape[0]
    for symbol, number in symbols.items():
        if not 0 <= number < rows:
            raise ValueError(
                f"{path}: the symbol {symbol!r} has the number {number}; the text table has {rows} rows"
            )
    return {str(symbol): number for symbol, number in symbols.items()}


def format_of(path: Path) -> str:
    """The format of an exported network: the head of the first has a class more than its tables have rows."""
    state = _tensors(path, _stored(path))
    stops = state["classifier.weight"].shape[0] == state["text_emb.weight"].shape[0] + 1
    return "enhuiz-valle-ar" if stops else "enhuiz-valle-nar"


def write(module: ValleNetwork, path: Path, symbols: Mapping[str, int], step: int = 0) -> None:
    """Write what `read_ar`, `read_nar` and `read_symbols` read, tensors and plain values only.

    ValueError for a text table of another size than the codes: the layout has one number for both.
    """
    config = module.config
    if config.text_vocab_size != config.codebook_size:
        raise ValueError(
            f"the text table has {config.text_vocab_size} rows and a level {config.codebook_size} codes; "
            "the layout of fp32.pth needs as many of both"
        )
    given = give_renamed(_names(module), module.state_dict())
    tensors = {name: tensor.detach().float().cpu() for name, tensor in given.items()}
    if not module.has_positions:
        constants = checkpoint_torchscale.constants(config.hidden_size, config.n_heads)
        tensors |= {RETNET + name: tensor for name, tensor in constants.items()}
    torch.save({"global_step": step, "micro_step": step, "module": tensors, "symmap": dict(symbols)}, path)


def export(module: nn.Module, path: Path, symbols: Mapping[str, int], step: int) -> None:
    """`write` for a network of our own, whose smaller text table gets the rows that the layout needs.

    ValueError for another number of heads than the layout implies.
    """
    assert isinstance(module, ValleAR | ValleNAR)
    config = module.config
    if config.n_heads != max(1, config.hidden_size // HEAD_DIM):
        raise ValueError(
            f"the network has {config.n_heads} heads at {config.hidden_size} channels; "
            f"the layout of fp32.pth means {HEAD_DIM} channels a head"
        )
    rows = max(config.text_vocab_size, config.codebook_size)
    if isinstance(module, ValleAR):
        write(grown(module, text_vocab_size=rows), path, symbols, step)
    else:
        write(grown(module, text_vocab_size=rows), path, symbols, step)


def _sizes(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "text_vocab_size": given["n_tokens"],
        "codebook_size": given["n_tokens"],
        "prompt_levels": given["prom_levels"],
        "n_task_tokens": given["tasks"] - 1,
        "hidden_size": given["d_model"],
        "n_layers": given["n_layers"],
        "n_heads": given["n_heads"],
        "dropout": given["p_dropout"],
        "retention_norm": "published",
    }


def _trunk(source: str, arch: str, retention: Any) -> Any:
    if arch not in ("transformer", "retnet"):
        raise ValueError(f"{source}: arch is {arch!r}; it must be 'transformer' or 'retnet'")
    return "transformer" if arch == "transformer" else retention


def _filled(module: ValleNetwork, reader: StateReader) -> nn.Module:
    if not module.has_positions:
        checkpoint_torchscale.ignore_constants(reader, RETNET)
    return filled(module, take_renamed(_names(module), module.state_dict(), reader), reader)


def _names(module: ValleNetwork) -> list[Renamed]:
    """The tensors that this network has."""
    names, n_layers, state = dict(_NAMES), module.config.n_layers, module.state_dict()
    if not module.has_positions:
        retention = checkpoint_torchscale.names(n_layers)
        names |= {f"trunk.{ours}": RETNET + theirs for ours, theirs in retention.items()}
        return same_tensors(names, state)
    for layer in range(n_layers):
        block = dict(_BLOCK)
        for ours, theirs in (("attention_norm", "attn.norm"), ("feed_forward_norm", "ffn.norm")):
            block |= {f"{ours}.{kind}": f"{theirs}.{kind}" for kind in ("weight", "bias")}
            block[f"{ours}.log_gain_shift.weight"] = f"{theirs}.emb.weight"
        names |= {
            f"trunk.blocks.{layer}.{ours}": f"blocks.{layer}.{theirs}" for ours, theirs in block.items()
        }
    return same_tensors({ours: theirs for ours, theirs in names.items() if ours in state}, state)


def _read(path: Path, kind: Kind) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    state = _tensors(path, _stored(path))
    try:
        n_classes, dim = state["classifier.weight"].shape
        prompt_levels, n_prompt_codes = state["proms_emb.weight"].shape[:2]
        resp_levels = state["resps_emb.weight"].shape[0]
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is no network of VALL-E: {error}") from error
    n_tokens = n_classes - 1 if kind == "ar" else n_classes
    retention = any(name.startswith(RETNET) for name in state)
    blocks = f"{RETNET}layers." if retention else "blocks."
    return {
        "n_tokens": n_tokens,
        "d_model": dim,
        "n_heads": max(1, dim // HEAD_DIM),
        "n_layers": len({name.split(".")[blocks.count(".")] for name in state if name.startswith(blocks)}),
        "prom_levels": prompt_levels,
        "resp_levels": resp_levels,
        "tasks": n_prompt_codes - n_tokens + 1,
        "arch": "retnet" if retention else "transformer",
    }, state


def _tensors(path: Path, stored: Mapping[str, Any]) -> Mapping[str, Tensor]:
    state = stored.get("module")
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} holds no state dict under 'module'")
    for name in ("classifier.weight", "text_emb.weight"):
        if name not in state:
            raise ValueError(f"{path} is no network of VALL-E: {name!r} is missing")
    return state


def _stored(path: Path) -> Mapping[str, Any]:
    path = path / FILE if path.is_dir() else path
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a file of tensors: {str(error).splitlines()[0]}") from error
    if not isinstance(stored, dict):
        raise ValueError(f"{path} holds {type(stored).__name__}; it must be a dictionary with 'module'")
    return stored
