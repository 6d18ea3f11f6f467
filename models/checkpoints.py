"""Reading foreign state dicts so that nothing is overlooked."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

Values: TypeAlias = Mapping[str, Any]
"""An object of a configuration or record that is only read; its values are checked where they are read."""
Record: TypeAlias = dict[str, Any]
"""One that is being put together."""


class StateReader:
    """Hands out tensors by name and shape, and remembers what was missing, misshapen or left over."""

    def __init__(self, source: str, state_dict: Mapping[str, Tensor]) -> None:
        self.source = source
        self._unread = dict(state_dict)
        self._problems: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._unread

    def take(self, name: str, *shape: int) -> Tensor:
        """Return the tensor of that name; a problem is noted, and zeros returned, if it does not fit."""
        tensor = self._unread.pop(name, None)
        if tensor is None:
            self._problems.append(f"{name} is missing")
        elif tuple(tensor.shape) != shape:
            self._problems.append(f"{name} has shape {tuple(tensor.shape)}, not {shape}")
        else:
            return tensor
        return torch.zeros(shape)

    def below(self, prefix: str) -> StateReader:
        """A reader of its own for all that stands below `prefix.`, which counts as read here."""
        names = [name for name in self._unread if name.startswith(f"{prefix}.")]
        state = {name.removeprefix(f"{prefix}."): self._unread.pop(name) for name in names}
        return StateReader(f"{self.source} {prefix}", state)

    def ignore(self, name: str, reason: str) -> None:
        """Skip a key that the reference stores without using it. It may be absent. `reason` says why."""
        if not reason:
            raise ValueError(f"{self.source}: {name} is ignored without a reason")
        self._unread.pop(name, None)

    def finish(self) -> None:
        """Raise ValueError with everything that did not fit and every key that nobody took."""
        problems = self._problems + [f"{name} is not consumed" for name in sorted(self._unread)]
        if problems:
            raise ValueError(f"{self.source}: the state dict does not fit: {'; '.join(problems)}")


def filled(module: nn.Module, state: Mapping[str, Tensor], reader: StateReader) -> nn.Module:
    """Load a converted state into `module`, strictly, once `reader` has been read to its end; in eval mode."""
    reader.finish()
    module.load_state_dict(dict(state))
    return module.eval()


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put a prefix before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


@dataclass(frozen=True)
class Renamed:
    """One of our tensors, and the published ones of which it is made."""

    ours: str
    published: Sequence[tuple[str, tuple[int, ...]]]
    """Names and shapes; several are joined along the first axis."""
    transposed: bool = False
    """The last two axes change places."""


def same_tensors(names: Mapping[str, str], state: Mapping[str, Tensor]) -> list[Renamed]:
    """Tensors that differ in their names only. `names`: ours -> published; `state`: a state dict of ours."""
    return [Renamed(ours, [(published, tuple(state[ours].shape))]) for ours, published in names.items()]


def take_renamed(
    names: Iterable[Renamed], shapes: Mapping[str, Tensor], reader: StateReader
) -> dict[str, Tensor]:
    """Read the published tensors as ours; `shapes` is a state dict of the module that they are for."""
    state = {}
    for name in names:
        joined = torch.cat([reader.take(published, *shape) for published, shape in name.published])
        state[name.ours] = (joined.mT if name.transposed else joined).reshape(shapes[name.ours].shape)
    return state


def give_renamed(names: Iterable[Renamed], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split our tensors into the published ones: the inverse of `take_renamed`."""
    given = {}
    for name in names:
        ours = state[name.ours].mT if name.transposed else state[name.ours]
        lengths = [shape[0] for _, shape in name.published]
        rest = name.published[0][1][1:]
        parts = torch.split(ours.reshape(-1, *rest), lengths)
        for (published, _), part in zip(name.published, parts, strict=True):
            given[published] = part.contiguous()
    return given


def take_affine(reader: StateReader, prefix: str, *shape: int) -> dict[str, Tensor]:
    """Take `weight` of that shape, and `bias` as long as its first axis."""
    return {
        "weight": reader.take(f"{prefix}.weight", *shape),
        "bias": reader.take(f"{prefix}.bias", shape[0]),
    }


def take_normed_weight(reader: StateReader, prefix: str, *shape: int) -> Tensor:
    """Take a weight of that shape from `weight_v` and `weight_g`, its direction and length along the first axis."""
    direction = reader.take(f"{prefix}.weight_v", *shape)
    return multiplied_out(direction, reader.take(f"{prefix}.weight_g", shape[0], *[1] * (len(shape) - 1)))


def multiplied_out(direction: Tensor, length: Tensor) -> Tensor:
    """A weight from its direction and length (arXiv 1602.07868), as torch.nn.utils.weight_norm keeps them."""
    axes = tuple(range(1, direction.dim()))
    norm: Tensor = torch.linalg.vector_norm(direction, dim=axes, keepdim=True)
    return direction * (length / norm)


def read_config(
    source: str, config: Mapping[str, Any], required: Sequence[str], defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the reference's constructor arguments with its defaults filled in; unknown keys are refused."""
    known = [*required, *defaults]
    for key in config:
        if key not in known:
            raise ValueError(f"{source}: unknown configuration key {key!r}; known: {', '.join(known)}")
    for key in required:
        if key not in config:
            raise ValueError(f"{source}: the configuration lacks {key!r}")
    return {**defaults, **config}


def read_tensors(path: Path, *under: str) -> dict[str, Tensor]:
    """Tensors by name from a safetensors file or a torch file; code in a torch file is never run.

    A torch file may hold the state dict itself, or hold it under `state_dict`, `model` or `under`. ValueError names
    the file and what is wrong with it.
    """
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return dict(load_file(path))
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a file of tensors: {error}") from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a file of tensors: {str(error).splitlines()[0]}") from error
    for key in ("state_dict", "model", *under):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path} is not a state dict: it must map names to tensors")
    return state


HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pt")


def hub_files(folder: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a folder as `save_pretrained` writes it: config.json and the weights.

    ValueError names what is missing or is not what its name says.
    """
    weights = next((folder / name for name in HUB_WEIGHTS if (folder / name).is_file()), None)
    if not (folder / "config.json").is_file() or weights is None:
        raise ValueError(f"it must hold config.json and one of {', '.join(HUB_WEIGHTS)}")
    return read_json(folder / "config.json"), read_tensors(weights)


def state_digest(state: Mapping[str, Tensor]) -> str:
    """sha256 (hex) of names, types, shapes and values, whatever file they came in."""
    found = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def read_json(path: Path) -> Mapping[str, Json]:
    """Read a JSON object. ValueError for anything else, OSError for a file that cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {type(found).__name__}; it must be an object")
    return found
