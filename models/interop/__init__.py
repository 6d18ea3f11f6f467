"""Published checkpoints: a state dict and its configuration become one of our modules.

`load(source, config, state_dict)` is the one entry; each format is one file beside this one.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from models.checkpoints import StateReader
from models.maskgct import checkpoint_choihkk_s2a as choihkk_maskgct_s2a
from models.maskgct import checkpoint_choihkk_t2s as choihkk_maskgct_t2s

Converter = Callable[[Mapping[str, Any], StateReader], nn.Module]

SOURCES: dict[str, Converter] = {
    "choihkk-maskgct-t2s": choihkk_maskgct_t2s.convert,
    "choihkk-maskgct-s2a": choihkk_maskgct_s2a.convert,
}


def load(source: str, config: Mapping[str, Any], state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Return our module, in eval mode, with the weights of a published checkpoint.

    `config` holds the constructor arguments of the reference, under its names. ValueError lists every key
    that was not consumed, every missing one, and every tensor of a wrong shape.
    """
    if source not in SOURCES:
        raise ValueError(f"unknown checkpoint source {source!r}; known: {', '.join(sorted(SOURCES))}")
    reader = StateReader(source, state_dict)
    return SOURCES[source](config, reader)
