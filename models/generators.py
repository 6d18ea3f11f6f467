"""Generator directories: config.json and model.safetensors of one trained network."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from models.building import built
from models.checkpoints import read_json
from models.families import trainable
from models.settings import dataclass_from

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def build_config(family: str, values: Mapping[str, Any]) -> Any:
    """Build a trainable's configuration; ValueError with the nearest name for an unknown or missing key."""
    return dataclass_from(trainable(family).config, values, f"the configuration of {family}")


def save_generator(module: nn.Module, family: str, directory: Path) -> None:
    """Write `config.json` and `model.safetensors` into `directory`, which is created.

    ValueError for a module that is not what `family` builds.
    """
    expected = trainable(family)
    if isinstance(expected.module, type) and not isinstance(module, expected.module):
        raise ValueError(f"a {type(module).__name__} is no {family}, which is a {expected.module.__name__}")
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, directory / WEIGHTS)
    config: Any = module.config
    text = json.dumps({"family": family, "config": dataclasses.asdict(config)}, indent=2)
    (directory / CONFIG).write_text(text + "\n", encoding="utf-8")


def load_generator(directory: Path) -> tuple[str, nn.Module]:
    """Read what `save_generator` wrote: the trainable's name and the module, on the CPU, in eval mode.

    ValueError names a missing file, an unknown key or family, and weights that do not fit the configuration.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise ValueError(f"{directory} is no generator directory: it has no {CONFIG}")
    stored = read_json(path)
    if "adapter" in stored:
        raise ValueError(
            f"{directory} is an adapter, no generator by itself: `assemble` joins it with its base"
        )
    if set(stored) != {"family", "config"}:
        raise ValueError(f"{path} has the keys {sorted(stored)}; it must have 'family' and 'config'")
    family, values = stored["family"], stored["config"]
    if not isinstance(family, str) or not isinstance(values, Mapping):
        raise ValueError(f"{path}: 'family' must be a name and 'config' an object")
    weights = directory / WEIGHTS
    try:
        kind, config = trainable(family), build_config(family, values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    try:
        state = load_file(weights)
        try:
            module = built(lambda: kind.module(config), state.values())
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error
        module.load_state_dict(state)
    except (RuntimeError, OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{weights} does not fit its {CONFIG}: {reason}") from error
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{weights}: {name} is not finite; the file is damaged or the training diverged")
    return family, module.eval()
