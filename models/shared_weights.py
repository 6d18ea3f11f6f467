"""Generators of systems: those with the same weights, adapted or not, share them within a process."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

from models.adapters import BASE, load_adapter, read_adapter
from models.generators import CONFIG, WEIGHTS, load_generator


@dataclass(frozen=True, eq=False)
class _Weights:
    """A generator as its directory has it; nobody but its copies uses its parameters."""

    family: str
    module: nn.Module


# By digest and device; gone with the last copy.
_LOADED: WeakValueDictionary[tuple[str, str, str], _Weights] = WeakValueDictionary()
_OF: WeakKeyDictionary[nn.Module, _Weights] = WeakKeyDictionary()


def load_shared(
    directory: Path, device: str | torch.device = "cpu", sha256: str | None = None
) -> tuple[str, nn.Module]:
    """Load a generator directory, or an adapter directory that holds its base; see `load_generator`.

    Parameters are shared with whatever was loaded here of the same weights, so they must not be changed. `sha256`: that
    of the file of weights, of the base's for an adapter, if the caller knows it.
    """
    adapter = read_adapter(directory)
    place = directory if adapter is None else directory / BASE
    if adapter is not None and not place.is_dir():
        raise ValueError(f"{directory} is an adapter of {adapter.base.source}; it has no folder {BASE!r}")
    weights = _weights(place, device, sha256)
    if adapter is not None and adapter.family != weights.family:
        raise ValueError(f"{directory} is an adapter of a {adapter.family}; its base is a {weights.family}")
    module = copy.deepcopy(weights.module, {id(one): one for one in weights.module.parameters()})
    if adapter is not None:
        load_adapter(directory, adapter, module)
        module.to(device)
    _OF[module] = weights
    return weights.family, module


def _weights(place: Path, device: str | torch.device, sha256: str | None) -> _Weights:
    config = place / CONFIG
    if not config.is_file() or not (place / WEIGHTS).is_file():
        load_generator(place)  # says what is missing
    digest = sha256 or weights_sha256(place)
    key = (digest, config.read_text(encoding="utf-8"), str(torch.device(device)))
    known = _LOADED.get(key)
    if known is None:
        family, module = load_generator(place)
        known = _LOADED[key] = _Weights(family, module.to(device))
    return known


def weights_sha256(directory: Path) -> str:
    """sha256 (hex) of a generator's file of weights. OSError if there is none."""
    with (directory / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
