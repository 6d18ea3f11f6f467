"""The example of docs/extending.md declares a family that everything finds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from models import families
from models.checkpoints import filled, hub_files
from models.generators import load_generator, save_generator
from models.interop import load
from models.manifest import Example

DOCS = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class TinyConfig:
    size: int = 2


class TinyNetwork(nn.Module):
    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.size, config.size)


def convert(config, reader):
    size = config["size"]
    state = {"linear.weight": reader.take("w", size, size), "linear.bias": reader.take("b", size)}
    return filled(TinyNetwork(TinyConfig(size)), state, reader)


def example() -> Example:
    return Example(TinyConfig(), (), lambda rows, padding: {}, lambda output, row: output)


def test_a_family_is_declared_as_the_page_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "FAMILY = " in code)
    names = {"TinyConfig": TinyConfig, "TinyNetwork": TinyNetwork, "convert": convert, "example": example}
    names |= {"build": lambda parts: parts, "hub_files": hub_files}
    exec(block, names)
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, names["FAMILY"]))
    assert families.family_of("tinytts").name == "tinytts"
    assert families.system_kind("tinytts").roles == {"generator": ("tinytts",)}
    state = {"w": torch.eye(3), "b": torch.ones(3)}
    save_generator(load("someone-tinytts", {"size": 3}, state), "tinytts", tmp_path)
    name, loaded = load_generator(tmp_path)
    assert (name, loaded.config) == ("tinytts", TinyConfig(3))
    assert torch.equal(loaded.linear.weight, state["w"])
