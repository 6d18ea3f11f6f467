"""Flow matchers in checkpoints of ZhangXInFD/SpeechGPT-Gen-Perceptual-Model@9b64fcd, read and written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.checkpoints import Json, Renamed, StateReader, filled, give_renamed, read_config, take_renamed
from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.layers.checkpoint_speechgpt_gen import (
    backbone_names,
    published_kwargs,
    read_backbone,
    released_files,
)

DEFAULTS = {
    "backbone_type": "uconformer",
    "dim_in": None,
    "sigma": 0.0,
    "start_from_cond": True,
    "concat_cond": False,
    "explicit": False,
    # A misspelling in the released configurations that the reference does not read: they train without it.
    "explict": False,
    # Of its solver, not of the network; `steps` and `grid` of the sampler say what they did.
    "use_torchode": False,
    "ode_atol": 1e-7,
    "ode_rtol": 1e-9,
    "ode_step_size": 0.0625,
    "torchdiffeq_ode_method": "midpoint",
}


def files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a released folder of a ConditionalFlowMatcher."""
    return released_files(folder, "ConditionalFlowMatcher")


def files_hierarchical(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a released folder of a HierarchicalConditionalFlowMatcher."""
    return released_files(folder, "HierarchicalConditionalFlowMatcher")


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build a ConditionalFlowMatcher with the weights of the reference."""
    module = ConditionalFlowMatcher(FlowMatchingConfig(**_settings(config, reader.source, {})))
    return filled(module, take_renamed(_names(module), module.state_dict(), reader), reader)


def convert_hierarchical(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build a HierarchicalConditionalFlowMatcher with the weights of the reference."""
    if "num_semantic_tokens" not in config:
        raise ValueError(f"{reader.source}: the configuration lacks 'num_semantic_tokens'")
    rest = {key: value for key, value in config.items() if key != "num_semantic_tokens"}
    settings = _settings(rest, reader.source, {"start_from_cond": False, "concat_cond": True})
    sizes = HierarchicalFlowMatchingConfig(**settings, n_semantic_tokens=config["num_semantic_tokens"])
    module = HierarchicalConditionalFlowMatcher(sizes)
    return filled(module, take_renamed(_names(module), module.state_dict(), reader), reader)


def published_state(module: nn.Module) -> dict[str, Tensor]:
    """The weights under the reference's names: the inverse of both conversions."""
    return give_renamed(_names(module), module.state_dict())


def published_config(module: nn.Module) -> dict[str, Any]:
    """The reference's configuration. ValueError for a network that it cannot build."""
    config = _checked(module).config
    if config.latent_size != config.hidden_size:
        raise ValueError(
            f"latent_size is {config.latent_size}; the published format needs hidden_size = {config.hidden_size}"
        )
    published = {
        "backbone_type": config.backbone,
        "backbone_kwargs": published_kwargs(config, config.time_condition_size),
        **{name: getattr(config, name) for name in ("sigma", "start_from_cond", "concat_cond", "explicit")},
    }
    if isinstance(config, HierarchicalFlowMatchingConfig):
        published["num_semantic_tokens"] = config.n_semantic_tokens
    return published


def _settings(config: Mapping[str, Any], source: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    given = read_config(source, config, ["backbone_kwargs"], {**DEFAULTS, **defaults})
    settings, condition = read_backbone(source, given["backbone_type"], given["backbone_kwargs"])
    dim = settings["hidden_size"]
    if given["dim_in"] not in (None, dim):
        raise ValueError(f"{source}: dim_in is {given['dim_in']}; the reference needs dim = {dim}")
    path = {name: given[name] for name in ("sigma", "start_from_cond", "concat_cond", "explicit")}
    return {**settings, **path, "latent_size": dim, "time_condition_size": condition}


def _checked(module: nn.Module) -> ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher:
    if not isinstance(module, ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher):
        raise ValueError(f"a {type(module).__name__} is no flow matcher")
    return module


def _names(module: nn.Module) -> Iterator[Renamed]:
    module = _checked(module)
    if isinstance(module, HierarchicalConditionalFlowMatcher):
        table = tuple(module.semantic_table.weight.shape)
        yield Renamed("semantic_table.weight", [("semantic_embeddings.weight", table)])
        yield from _flow_names(module.flow, "flow.", "model.")
    else:
        yield from _flow_names(module, "", "")


def _flow_names(flow: ConditionalFlowMatcher, ours: str, published: str) -> Iterator[Renamed]:
    plain = {
        "embed.weight": "to_embed.weight",
        "embed.bias": "to_embed.bias",
        "head.weight": "to_pred.weight",
    }
    if flow.time is not None:
        plain |= {
            "time.frequencies": "sinu_pos_emb.0.weights",
            "time.out.weight": "sinu_pos_emb.1.weight",
            "time.out.bias": "sinu_pos_emb.1.bias",
        }
    shapes = flow.state_dict()
    for name, given in plain.items():
        yield Renamed(ours + name, [(published + given, tuple(shapes[name].shape))])
    yield from backbone_names(flow.backbone, f"{ours}backbone.", f"{published}net.")
