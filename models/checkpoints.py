"""Reading a foreign state dict so that nothing is overlooked."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class StateReader:
    """Hands out tensors by name and shape, and remembers what was missing, misshapen or left over."""

    def __init__(self, source: str, state_dict: Mapping[str, Tensor]) -> None:
        self.source = source
        self._unread = dict(state_dict)
        self._problems: list[str] = []

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

    def finish(self) -> None:
        """Raise ValueError with everything that did not fit and every key that nobody took."""
        problems = self._problems + [f"{name} is not consumed" for name in sorted(self._unread)]
        if problems:
            raise ValueError(f"{self.source}: the state dict does not fit: {'; '.join(problems)}")


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
