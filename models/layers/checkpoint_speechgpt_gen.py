"""Backbones in checkpoints of ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd: settings and names of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.checkpoints import Json, Renamed, read_config, read_tensors
from models.layers.backbones import Backbone, BackboneConfig

CONFIG_FILE = "model_config.yml"

DEFAULTS = {
    "heads": 8,
    "ff_mult": 4,
    "t5_rel_pos_bias": False,
    "adaptive_rmsnorm": False,
    "adaptive_rmsnorm_cond_dim_in": None,
    "conv_expansion_factor": 2,
    "conv_kernel_size": 31,
    "conv_causal": False,
    "ff_dropout": 0.0,
    "conv_dropout": 0.0,
    # Ours has no dropout in the attention, and its kernel is chosen by torch.
    "attn_dropout": 0.0,
    "attn_flash": True,
}


def released_files(folder: Path, class_name: str) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a folder as released: `model_config.yml` and `{class}_best_dev.pt`. ValueError names what is missing."""
    import yaml  # comes with transformers; most programs need neither

    config, weights = folder / CONFIG_FILE, folder / f"{class_name}_best_dev.pt"
    for path in (config, weights):
        if not path.is_file():
            raise ValueError(f"{folder} has no {path.name}; it must hold {CONFIG_FILE} and {weights.name}")
    try:
        found = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{config} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{config} holds {type(found).__name__}; it must be a mapping")
    return found, read_tensors(weights)


def write_released(
    folder: Path, class_name: str, config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> None:
    """Write what `released_files` reads, into a folder that exists."""
    import yaml

    (folder / CONFIG_FILE).write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
    torch.save(dict(state), folder / f"{class_name}_best_dev.pt")


def read_backbone(source: str, kind: str, published: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Translate `backbone_kwargs` into settings of BackboneConfig and the size of the condition (0: none)."""
    given = read_config(f"{source} backbone_kwargs", published, ["dim", "depth"], DEFAULTS)
    settings = {
        "backbone": kind,
        "hidden_size": given["dim"],
        "n_layers": given["depth"],
        "n_heads": given["heads"],
        "feed_forward_size": given["dim"] * given["ff_mult"],
        "positions": "t5" if given["t5_rel_pos_bias"] else "rotary",
        "rope_on_keys": kind not in ("transformer", "uformer"),
        "conv_expansion": given["conv_expansion_factor"],
        "conv_kernel_size": given["conv_kernel_size"],
        "conv_causal": given["conv_causal"],
        "dropout": max(given["ff_dropout"], given["conv_dropout"]),
    }
    condition = given["adaptive_rmsnorm_cond_dim_in"] or 0
    if given["adaptive_rmsnorm"] and not condition:
        raise ValueError(f"{source}: adaptive_rmsnorm needs a size, adaptive_rmsnorm_cond_dim_in")
    return settings, condition if given["adaptive_rmsnorm"] else 0


def published_kwargs(config: BackboneConfig, condition_dim: int) -> dict[str, Any]:
    """The inverse of `read_backbone`. ValueError for what the published backbones cannot be."""
    if config.feed_forward_size % config.hidden_size:
        raise ValueError(
            f"feed_forward_size is {config.feed_forward_size}; "
            f"the published format needs a multiple of hidden_size = {config.hidden_size}"
        )
    if config.rope_on_keys and config.positions == "rotary" and not config.convolves:
        raise ValueError(f"rope_on_keys is on; the published {config.backbone} rotates the queries alone")
    return {
        "dim": config.hidden_size,
        "depth": config.n_layers,
        "heads": config.n_heads,
        "ff_mult": config.feed_forward_size // config.hidden_size,
        "t5_rel_pos_bias": config.positions == "t5",
        "attn_flash": config.positions != "t5",
        "ff_dropout": config.dropout,
        "adaptive_rmsnorm": condition_dim > 0,
        "adaptive_rmsnorm_cond_dim_in": condition_dim or None,
        **(_published_convolution(config) if config.convolves else {}),
    }


def _published_convolution(config: BackboneConfig) -> dict[str, Any]:
    return {
        "conv_expansion_factor": config.conv_expansion,
        "conv_kernel_size": config.conv_kernel_size,
        "conv_causal": config.conv_causal,
        "conv_dropout": config.dropout,
    }


def backbone_names(backbone: Backbone, ours: str, published: str) -> Iterator[Renamed]:
    """The backbone's tensors; `ours` and `published` are the prefixes, with their dots."""
    config = backbone.config
    dim = config.hidden_size
    block_names = _conformer if config.convolves else _post_norm
    for layer in range(config.n_layers):
        names = _Names(f"{ours}blocks.{layer}.", f"{published}{_published_layer(config, layer)}.", dim)
        yield from block_names(names, config, backbone.condition_dim)
    for index in range(config.n_skips):
        join = _Names(f"{ours}joins.{index}.", f"{published}projs.{index}", dim)
        if config.convolves:
            yield from join.linear("0", "", dim, 2 * dim)
        else:
            yield from join.linear("0", ".0", dim, 2 * dim)
            yield join.one("1.weight", ".1.gamma", dim)
    if config.positions == "t5":
        table = f"{published}rel_pos_bias.relative_attention_bias.weight"
        yield Renamed(f"{ours}bias.table.weight", [(table, (32, config.n_heads))])


def _published_layer(config: BackboneConfig, layer: int) -> str:
    if config.backbone not in ("uformer", "uconformer"):
        return f"layers.{layer}"
    n_skips, first_expanding = config.n_skips, config.n_layers - config.n_skips
    if layer < n_skips:
        return f"contracting_layers.{layer}"
    if layer < first_expanding:
        return f"bottleneck_layers.{layer - n_skips}"
    return f"expanding_layers.{layer - first_expanding}"


class _Names:
    """Names below a pair of prefixes."""

    def __init__(self, ours: str, published: str, dim: int) -> None:
        self.ours, self.published, self.dim = ours, published, dim

    def one(self, ours: str, published: str, *shape: int) -> Renamed:
        return Renamed(self.ours + ours, [(self.published + published, shape)])

    def linear(self, ours: str, published: str, out_dim: int, in_dim: int, *rest: int) -> Iterator[Renamed]:
        yield self.one(f"{ours}.weight", f"{published}.weight", out_dim, in_dim, *rest)
        yield self.one(f"{ours}.bias", f"{published}.bias", out_dim)

    def attention(self, published: str) -> Iterator[Renamed]:
        query, key_value = (
            f"{self.published}{published}.to_q.weight",
            f"{self.published}{published}.to_kv.weight",
        )
        shapes = [(query, (self.dim, self.dim)), (key_value, (2 * self.dim, self.dim))]
        yield Renamed(f"{self.ours}attention.qkv.weight", shapes)
        yield from self.linear("attention.out", f"{published}.to_out", self.dim, self.dim)

    def mlp(self, ours: str, published: str, inner: int) -> Iterator[Renamed]:
        yield from self.linear(f"{ours}.0", f"{published}.net.0", inner, self.dim)
        yield from self.linear(f"{ours}.3", f"{published}.net.3", self.dim, inner)

    def norm(self, ours: str, published: str, condition_dim: int, *, plain: str) -> Iterator[Renamed]:
        """`plain` is what the published one without a condition calls its gain: `weight` (with a bias) or `gamma`."""
        if condition_dim:
            yield from self.linear(f"{ours}.gain", f"{published}.to_gamma", self.dim, condition_dim)
            yield from self.linear(f"{ours}.shift", f"{published}.to_beta", self.dim, condition_dim)
            return
        yield self.one(f"{ours}.weight", f"{published}.{plain}", self.dim)
        if plain == "weight":
            yield self.one(f"{ours}.bias", f"{published}.bias", self.dim)


def _post_norm(block: _Names, config: BackboneConfig, condition_dim: int) -> Iterator[Renamed]:
    yield from block.attention("attn.fn")
    yield from block.norm("attention_norm", "attn.norm", condition_dim, plain="gamma")
    yield from block.mlp("feed_forward", "ffn.fn", config.feed_forward_size)
    yield from block.norm("feed_forward_norm", "ffn.norm", condition_dim, plain="gamma")


def _conformer(block: _Names, config: BackboneConfig, condition_dim: int) -> Iterator[Renamed]:
    dim, inner = config.hidden_size, config.hidden_size * config.conv_expansion
    for ours, published in (("first", "ff1"), ("second", "ff2")):
        yield from block.mlp(ours, f"{published}.fn.fn", config.feed_forward_size)
        yield from block.norm(f"{ours}_norm", f"{published}.fn.norm", condition_dim, plain="weight")
    yield from block.attention("attn.fn")
    yield from block.norm("attention_norm", "attn.norm", condition_dim, plain="weight")
    yield from block.norm("norm", "post_norm", 0, plain="weight")
    yield from block.norm("convolution.norm", "conv.net1.0", 0, plain="weight")
    yield from block.linear("convolution.gate", "conv.net1.2", 2 * inner, dim, 1)
    yield from block.linear("convolution.depthwise", "conv.ds_conv.conv", inner, 1, config.conv_kernel_size)
    yield block.one("convolution.channel_norm.gain", "conv.net2.1.gamma", 1, inner, 1)
    yield from block.linear("convolution.out", "conv.net2.2", dim, inner, 1)
