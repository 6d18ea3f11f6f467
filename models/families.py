"""Every generator family by name, and the directory that holds one generator."""

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig


@dataclass(frozen=True)
class Family:
    """A generator's settings and class; `module(config)` builds it."""

    config: type[Any]
    module: type[nn.Module]


FAMILIES: dict[str, Family] = {
    "maskgct_t2s": Family(MaskGCTT2SConfig, MaskGCTT2S),
    "maskgct_s2a": Family(MaskGCTS2AConfig, MaskGCTS2A),
}


def family_of(name: str) -> Family:
    """Return the family of that name; ValueError naming the known ones otherwise."""
    if name not in FAMILIES:
        raise ValueError(f"unknown model family {name!r}; known: {', '.join(sorted(FAMILIES))}")
    return FAMILIES[name]


def build_config(family: str, values: Mapping[str, Any]) -> Any:
    """Build a family's configuration; ValueError with the nearest name for an unknown or missing key."""
    config = family_of(family).config
    fields = {field.name: field for field in dataclasses.fields(config)}
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(fields)}"
            raise ValueError(f"unknown key {key!r} in the configuration of {family}{hint}")
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in values:
            raise ValueError(f"the configuration of {family} lacks {name!r}")
    return config(**values)


def save_generator(module: nn.Module, family: str, directory: Path) -> None:
    """Write `config.json` and `model.safetensors` into `directory`, which is created."""
    expected = family_of(family).module
    if not isinstance(module, expected):
        raise ValueError(f"a {type(module).__name__} is no {family}, which is a {expected.__name__}")
    directory.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}
    save_file(tensors, directory / "model.safetensors")
    text = json.dumps({"family": family, "config": dataclasses.asdict(module.config)}, indent=2)  # type: ignore[call-overload]
    (directory / "config.json").write_text(text + "\n", encoding="utf-8")


def load_generator(directory: Path) -> tuple[str, nn.Module]:
    """Read what `save_generator` wrote: the family's name and the module, on the CPU, in eval mode.

    ValueError names a missing file, an unknown key or family, and weights that do not fit the configuration.
    """
    path = directory / "config.json"
    if not path.is_file():
        raise ValueError(f"{directory} is no generator directory: it has no config.json")
    stored = json.loads(path.read_text(encoding="utf-8"))
    if set(stored) != {"family", "config"}:
        raise ValueError(f"{path} has the keys {sorted(stored)}; it must have 'family' and 'config'")
    family = stored["family"]
    module = family_of(family).module(build_config(family, stored["config"]))
    try:
        module.load_state_dict(load_file(directory / "model.safetensors"))
    except (RuntimeError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the weights in {directory} do not fit its config.json: {reason}") from error
    return family, module.eval()
