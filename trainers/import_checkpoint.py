"""A published checkpoint becomes a registered generator."""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from catalog.command import JobError, require_absolute_under_ray_job
from catalog.models import promote, register
from models.families import FAMILIES, save_generator
from models.interop import load

WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pt")


def import_checkpoint(source: str, path: Path, name: str, alias: str | None, uri: str) -> dict[str, Any]:
    """Convert `path` (a folder with config.json and weights) of the format `source` and register it as `name`.

    JobError names missing files and what is wrong with a state dict: keys not consumed, missing, or of other shapes.
    """
    require_absolute_under_ray_job(tracking_uri=uri)
    config, weights = _files(path)
    try:
        module = load(source, json.loads(config.read_text(encoding="utf-8")), read_state_dict(weights))
    except (ValueError, TypeError) as error:
        raise JobError(f"{path} is no {source}: {error}") from error
    family = next(name for name, kind in FAMILIES.items() if isinstance(module, kind.module))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    record = {"family": family, "source": source, "weights_sha256": digest}
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "generator"
        save_generator(module, family, directory)
        (directory / "import.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        version = register(directory, name, tracking_uri=uri, tags=record)
    if alias is not None:
        promote(name, version, alias, uri)
    parameters = sum(p.numel() for p in module.parameters())
    return {**record, "parameters": parameters, "name": name, "version": version, "alias": alias}


def _files(path: Path) -> tuple[Path, Path]:
    config = path / "config.json"
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    if not config.is_file() or weights is None:
        raise JobError(
            f"{path} is no published checkpoint: it must hold config.json and one of {', '.join(WEIGHTS)}"
        )
    return config, weights


def read_state_dict(path: Path) -> Mapping[str, Tensor]:
    """Tensors by name from a safetensors file or a torch file; code in a torch file is never run."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except SafetensorError as error:
            raise JobError(f"{path} is not a file of tensors: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise JobError(f"{path} is not a file of tensors: {str(error).splitlines()[0]}") from error
    found = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise JobError(f"{path} is not a state dict: it must map names to tensors")
    return found
