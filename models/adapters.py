"""Low-rank adapters (LoRA, arXiv 2106.09685) of a generator, made by peft: attached, merged, or stored by themselves.

An adapter directory holds `config.json` (family, settings, the base by source and digest) and `model.safetensors` (two
matrices a layer, peft's names). Its base may lie inside it, in `base/`. A layer that is several projections at once
(`qkv`, `gate_up`) has one pair of matrices, so its rank is shared by them; embeddings and the heads of all levels are
no linear layers and stay as they are.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.checkpoints import read_json
from models.generators import CONFIG, WEIGHTS
from models.layers.checks import check_positive
from models.settings import dataclass_from

BASE = "base"
"""The folder of an adapter directory in which its base may lie."""
_PEFT = "default"
"""peft's name of the one adapter of a network."""


@dataclass(frozen=True)
class AdapterConfig:
    """Size and place of an adapter."""

    rank: int = 16
    alpha: float = 32.0
    """The adapter's output is multiplied by alpha / rank."""
    dropout: float = 0.0
    """Share of an adapter's inputs that training drops."""
    targets: tuple[str, ...] = ("qkv", "out")
    """Names of linear layers, or their last parts: `qkv` is every layer of that name."""

    def __post_init__(self) -> None:
        check_positive(self, ["rank"])
        if not self.alpha > 0:
            raise ValueError(f"alpha is {self.alpha}; it must be above 0")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")
        if not self.targets:
            raise ValueError("targets is empty; it must name linear layers, such as qkv")


@dataclass(frozen=True)
class Base:
    """The generator that an adapter was trained on."""

    source: str
    """`models:/NAME/VERSION`, or a directory."""
    sha256: str
    """Of its file of weights."""


@dataclass(frozen=True)
class StoredAdapter:
    """`config.json` of an adapter directory."""

    family: str
    adapter: AdapterConfig
    base: Base


def attach(module: nn.Module, config: AdapterConfig) -> None:
    """Give layers of `module` an adapter, in place; it changes nothing yet, and alone has gradients.

    The first of the two matrices is drawn from torch's global generator, the second is 0. ValueError names a target
    that is no linear layer of the network, or a rank above the size of a layer.
    """
    layers = _layers(module, config.targets)
    for name, layer in layers.items():
        smallest = min(layer.in_features, layer.out_features)
        if config.rank > smallest:
            raise ValueError(
                f"rank is {config.rank}: must be at most {smallest}, for {name} maps {layer.in_features} channels "
                f"to {layer.out_features}"
            )
    peft = _peft()
    lora = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules="|".join(map(re.escape, layers)),
    )
    peft.inject_adapter_in_model(lora, module, _PEFT)
    module.train(module.training)


def merged(module: nn.Module) -> nn.Module:
    """A copy of a network in which its adapter is part of the weights."""
    merged = copy.deepcopy(module)
    for name, layer in _adapted(merged).items():
        layer.merge(safe_merge=True)
        merged.set_submodule(name, layer.get_base_layer())
    del merged.peft_config
    return merged.requires_grad_(True)


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """The adapter's matrices, by peft's names."""
    state: dict[str, Tensor] = _peft().get_peft_model_state_dict(module, adapter_name=_PEFT)
    return state


def save_adapter(module: nn.Module, stored: StoredAdapter, directory: Path) -> None:
    """Write `config.json` and `model.safetensors` into `directory`, which is created."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in adapter_state(module).items()}
    save_file(tensors, directory / WEIGHTS)
    text = json.dumps(dataclasses.asdict(stored), indent=2)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")


def read_adapter(directory: Path) -> StoredAdapter | None:
    """The description that `save_adapter` wrote; None for another directory. ValueError for a damaged one."""
    path = directory / CONFIG
    stored = read_json(path) if path.is_file() else {}
    if "adapter" not in stored:
        return None
    parts = [stored.get(key) for key in ("adapter", "base")]
    if not isinstance(stored.get("family"), str) or not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(f"{path} must have 'family', a name, and the objects 'adapter' and 'base'")
    adapter, base = (dict(part) for part in parts if isinstance(part, Mapping))
    config = dataclass_from(AdapterConfig, adapter, f"'adapter' of {path}")
    return StoredAdapter(str(stored["family"]), config, dataclass_from(Base, base, f"'base' of {path}"))


def load_adapter(directory: Path, stored: StoredAdapter, module: nn.Module) -> None:
    """Attach the adapter of `directory` to its base, in place. ValueError for weights that do not fit it."""
    attach(module, stored.adapter)
    weights = directory / WEIGHTS
    try:
        state = load_file(weights)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{weights} is not a file of tensors: {error}") from error
    expected = {name: tuple(tensor.shape) for name, tensor in adapter_state(module).items()}
    found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise ValueError(
                f"{weights}: {name} has shape {found.get(name)}; its base needs {expected.get(name)}"
            )
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{weights}: {name} is not finite; the file is damaged or the training diverged")
    _peft().set_peft_model_state_dict(module, state, adapter_name=_PEFT)
    module.requires_grad_(True).eval()


def _layers(module: nn.Module, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers that `targets` name."""
    linear = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    found: dict[str, nn.Linear] = {}
    for target in targets:
        named = {name: one for name, one in linear.items() if name == target or name.endswith(f".{target}")}
        if not named:
            known = sorted({".".join(name.split(".")[-2:]) for name in linear})
            raise ValueError(
                f"target {target!r} is no linear layer of {type(module).__name__}; it has {', '.join(known)}"
            )
        found |= named
    return found


def _adapted(module: nn.Module) -> dict[str, Any]:
    from peft.tuners.lora import LoraLayer

    return {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ValueError("adapters need the package peft, which is not installed") from error
    return peft
