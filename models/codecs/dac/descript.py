"""Weights of descript-audio-codec by the names of Hugging Face's `DacModel`, which has the same layers.

The order of layers is that of dac/model/dac.py in descript-audio-codec 1.0.0: a stack's first layer, one block for each
ratio, an activation, the last layer. A residual unit is activation, convolution, activation, convolution.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.checkpoints import multiplied_out

_UNIT = ("snake1", "conv1", "snake2", "conv2")


def is_descript(weights: Mapping[str, Tensor]) -> bool:
    """True if the names are descript-audio-codec's, bare or below `model.` (as parler-tts keeps them)."""
    return any(name.removeprefix("model.").startswith("decoder.model.") for name in weights)


def to_hugging_face(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as `DacModel` names them, directions and lengths (`weight_v`, `weight_g`) multiplied out."""
    bare = {name.removeprefix("model."): value for name, value in weights.items()}
    last = {
        stack: max(int(name.split(".")[2]) for name in bare if name.startswith(stack))
        for stack in ("encoder.block.", "decoder.model.")
    }
    found = {}
    for name, value in bare.items():
        path, _, kind = name.rpartition(".")
        if kind == "weight_g":
            continue
        if kind == "weight_v":
            kind, value = "weight", multiplied_out(value, bare[f"{path}.weight_g"])
        found[f"{_renamed(path.split('.'), last)}.{kind}"] = value
    return found


def _renamed(path: list[str], last: Mapping[str, int]) -> str:
    side, stack, *numbers = path
    if side == "quantizer":
        return ".".join(path)
    places = [int(number) for number in numbers if number != "block"]
    end = last[f"{side}.{stack}."]
    if len(places) == 1:
        outermost = {0: "conv1", end - 1: "snake1", end: "conv2"}
        return f"{side}.{outermost[places[0]]}"
    # An encoder's block ends with activation and convolution, a decoder's begins with them.
    first_unit, outside = (
        (0, {3: "snake1", 4: "conv1"}) if side == "encoder" else (2, {0: "snake1", 1: "conv_t1"})
    )
    inner = (
        outside[places[1]] if len(places) == 2 else f"res_unit{places[1] - first_unit + 1}.{_UNIT[places[2]]}"
    )
    return f"{side}.block.{places[0] - 1}.{inner}"
