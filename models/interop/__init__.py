"""Published checkpoints: a state dict and its configuration become one of our modules."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from models.families import checkpoint_format


def load(source: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Return our module, in eval mode, with the weights of a published checkpoint.

    `source` names a format of a family's manifest, `config` holds the constructor arguments of the reference under its
    names. ValueError lists every key that was not consumed, every missing one, and every tensor of a wrong shape.
    """
    return checkpoint_format(source).converted(config, source, state_dict)
