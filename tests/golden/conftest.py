"""Parity vectors: `--golden-dir DIR` holds one folder a case with case.json, weights and tensors.

A test asks for `t2s_section`, `s2a_section`, ...: it runs once for every section of every case of that class.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models import interop

BESIDE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "golden"

KNOWN = {
    "choiHkk/maskgct maskgct_t2s.MaskGCT_T2S": ("t2s_section", "choihkk-maskgct-t2s"),
    "choiHkk/maskgct maskgct_s2a.MaskGCT_S2A": ("s2a_section", "choihkk-maskgct-s2a"),
}


def pytest_addoption(parser):
    parser.addoption("--golden-dir", help="folder of parity cases (default: ../shared/golden)")


class RecordedDraws:
    """Hands out the reference's draws in their order, to the corruption as well as to the sampler."""

    def __init__(self, recorded: list[tuple[str, Tensor]]) -> None:
        self.recorded = recorded

    def _next(self, kind: str, *shape: int) -> Tensor:
        found_kind, numbers = self.recorded.pop(0)
        assert (found_kind, tuple(numbers.shape)) == (kind, shape)
        return numbers

    def rand(self, count):
        return self._next("rand", count)

    def multinomial(self, weights_Q, count):
        return self._next("multinomial", count)

    def randint(self, low_B, high_B):
        drawn_B = self._next("randint", *low_B.shape)
        assert (low_B <= drawn_B).all()
        assert (drawn_B < high_B).all()
        return drawn_B

    def bernoulli(self, probabilities_BT):
        return self._next("bernoulli", *probabilities_BT.shape).bool()

    def tokens(self, lengths, candidates_BTk, n_codes):
        return self._next("uniform", *candidates_BTk.shape[:2], n_codes).gather(-1, candidates_BTk)

    def scores(self, lengths, n_frames):
        return self._next("uniform", len(lengths), n_frames)


@dataclass(frozen=True)
class Section:
    """One recorded call of the reference, with our module holding the reference's weights."""

    name: str
    module: nn.Module
    constructor: Mapping[str, Any]
    args: Mapping[str, Any]
    described: Mapping[str, Mapping[str, Any]]
    tensors: Mapping[str, Tensor]
    draws: RecordedDraws

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f"{self.name}.in.{name}"]

    def check(self, results: Mapping[str, Tensor]) -> None:
        """Compare every recorded output, integers exactly, and see that every draw was used."""
        prefix = f"{self.name}.out."
        expected = {key.removeprefix(prefix): t for key, t in self.tensors.items() if key.startswith(prefix)}
        assert expected
        assert not set(expected) - set(results), "recorded, but not computed"
        for name, wanted in expected.items():
            atol = self.described[prefix + name].get("suggested_atol", 0.0)
            found = results[name].to(wanted.dtype)
            assert found.shape == wanted.shape, name
            torch.testing.assert_close(
                found, wanted, rtol=0, atol=atol, msg=lambda text, n=name: f"{n}: {text}"
            )
        assert not self.draws.recorded, "draws left over"


@functools.lru_cache(maxsize=2)
def load_case(folder: Path, source: str) -> tuple[Mapping[str, Any], nn.Module, Mapping[str, Tensor]]:
    described = json.loads((folder / "case.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    module = interop.load(source, described["constructor"], weights)
    return described, module, load_file(folder / "tensors.safetensors")


def load_section(folder: Path, source: str, name: str) -> Section:
    described, module, tensors = load_case(folder, source)
    entry = next(entry for entry in described["sections"] if entry["name"] == name)
    keys = sorted(key for key in tensors if key.startswith(f"{name}.rng."))
    draws = RecordedDraws([(key.rsplit(".", 1)[1], tensors[key]) for key in keys])
    return Section(name, module, described["constructor"], entry["args"], entry["tensors"], tensors, draws)


@pytest.fixture
def t2s_section(request):
    return load_section(*request.param)


@pytest.fixture
def s2a_section(request):
    return load_section(*request.param)


def pytest_generate_tests(metafunc):
    wanted = {fixture: source for fixture, source in KNOWN.values() if fixture in metafunc.fixturenames}
    asked = metafunc.config.getoption("golden_dir", default=None)
    directory = Path(asked or BESIDE_CHECKOUT)
    if asked and not any(directory.glob("*/case.json")):
        raise pytest.UsageError(f"--golden-dir {asked}: no case folder with a case.json in it")
    if "unknown_case" in metafunc.fixturenames:
        folders = [
            path.parent.name for path in sorted(directory.glob("*/case.json")) if class_of(path) not in KNOWN
        ]
        metafunc.parametrize("unknown_case", folders)
    for fixture, source in wanted.items():
        found = list(sections_of(directory, fixture))
        ids = [f"{folder.name}-{name}" for folder, name in found]
        values = [(folder, source, name) for folder, name in found]
        reason = f"no case for {source} in {directory}"
        values = values or [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")]
        metafunc.parametrize(fixture, values, ids=ids or None, indirect=True)


def sections_of(directory: Path, fixture: str):
    for path in sorted(directory.glob("*/case.json")):
        if KNOWN.get(class_of(path), ("",))[0] == fixture:
            for entry in json.loads(path.read_text())["sections"]:
                yield path.parent, entry["name"]


def class_of(path: Path) -> str:
    reference = json.loads(path.read_text())["reference"]
    return f"{reference['repository']} {reference['class']}"
