"""Codec directories: config.json and model.safetensors, written and read in one place for every kind of codec.

config.json holds `kind` (which architecture), `name`, `edition` and `config`, the architecture's sizes. A directory of
Hugging Face's `DacModel` (config.json with `model_type: dac`) counts as one of kind `dac`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.building import built
from models.settings import dataclass_from

Config = TypeVar("Config")
Network = TypeVar("Network", bound=nn.Module)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
HUB_EDITION = "hub"
"""Of directories of the Hub, which have no edition of their own: the digest of the weights tells them apart."""


@dataclass(frozen=True)
class Stored:
    """Contents of a codec directory."""

    name: str
    edition: str
    config: Mapping[str, Any]
    """Sizes, with lists as tuples."""
    weights: Mapping[str, Tensor]
    """As stored, float16 or float32."""
    sha256: str
    """Of model.safetensors."""


def kind_of(directory: Path) -> str:
    """The kind that config.json names. ValueError if it names none."""
    described = read_config(directory)
    kind = described.get("kind", described.get("model_type"))
    if not isinstance(kind, str):
        raise ValueError(f"{directory / CONFIG}: kind is {kind!r}; it must name the kind of codec")
    return kind


def read_config(directory: Path) -> dict[str, Any]:
    """config.json as it is."""
    path = directory / CONFIG
    require(path)
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(described, dict):
        raise ValueError(f"{path} holds {type(described).__name__}; must be an object")
    return described


def read(directory: Path) -> Stored:
    """Read what `write` wrote."""
    require(directory / CONFIG)
    require(directory / WEIGHTS)
    described = read_config(directory)
    missing = [key for key in ("name", "edition", "config") if key not in described]
    if missing:
        raise ValueError(f"{directory / CONFIG} lacks {', '.join(missing)}")
    weights, digest = read_weights(directory)
    config = {key: _frozen(value) for key, value in described["config"].items()}
    return Stored(str(described["name"]), str(described["edition"]), config, weights, digest)


def read_weights(directory: Path) -> tuple[dict[str, Tensor], str]:
    """model.safetensors, and the sha256 of its bytes."""
    path = directory / WEIGHTS
    require(path)
    content = path.read_bytes()
    try:
        return load(content), hashlib.sha256(content).hexdigest()
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error


def write(
    directory: Path,
    *,
    kind: str,
    name: str,
    edition: str,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a codec directory; half precision by default, as a codec is meant to be carried along.

    ValueError names a weight that is not finite in `dtype`; nothing is written then.
    """
    stored = {key: value.detach().to("cpu", dtype).contiguous() for key, value in weights.items()}
    for key, value in stored.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"weight {key} is not finite in {dtype}; a codec with it would not decode")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / WEIGHTS).write_bytes(save(stored))
    described = {"kind": kind, "name": name, "edition": edition, "config": dict(config)}
    (directory / CONFIG).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def fill(module: nn.Module, weights: Mapping[str, Tensor], directory: Path) -> None:
    """Load stored weights into a module, in the module's precision. ValueError names every key that does not fit."""
    wanted = module.state_dict()
    differing = sorted(weights.keys() ^ wanted.keys()) or [
        key for key in wanted if weights[key].shape != wanted[key].shape
    ]
    if differing:
        raise ValueError(f"{directory / WEIGHTS} does not fit its {CONFIG}: {', '.join(differing)}")
    module.load_state_dict({key: value.to(wanted[key].dtype) for key, value in weights.items()})


def write_network(network: nn.Module, directory: Path, *, kind: str, name: str, edition: str) -> None:
    """Write a network whose `config` is a dataclass, float32."""
    config: Any = network.config
    weights = network.state_dict()
    write(
        directory,
        kind=kind,
        name=name,
        edition=edition,
        config=asdict(config),
        weights=weights,
        dtype=torch.float32,
    )


def read_network(
    directory: Path, config: type[Config], network: Callable[[Config], Network]
) -> tuple[Network, Stored]:
    """Read what `write_network` wrote; FileNotFoundError or ValueError names the file that is missing or wrong."""
    stored = read(directory)
    sizes = dataclass_from(config, stored.config, str(directory / CONFIG))
    made = build(lambda: network(sizes), stored.weights, directory)
    return made, stored


def build(make: Callable[[], Network], weights: Mapping[str, Tensor], directory: Path) -> Network:
    """A network with the stored weights. ValueError names a file whose sizes are absurd or whose keys do not fit."""
    try:
        made = built(make, weights.values())
    except (ValueError, TypeError) as error:
        raise ValueError(f"{directory / CONFIG}: {error}") from error
    fill(made, weights, directory)
    return made


def require(path: Path) -> None:
    """FileNotFoundError unless the file is there."""
    if not path.is_file():
        raise FileNotFoundError(f"codec directory {path.parent} has no {path.name}")


def _frozen(value: Any) -> Any:
    """JSON has no tuples, and a frozen configuration no lists."""
    if isinstance(value, dict):
        return {key: _frozen(inner) for key, inner in value.items()}
    return tuple(_frozen(inner) for inner in value) if isinstance(value, list) else value
