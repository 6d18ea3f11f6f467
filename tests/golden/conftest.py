"""Parity vectors: `--golden-dir DIR` holds one folder a case with case.json, weights and tensors.

A test marked `@pytest.mark.golden(REPOSITORY, CLASS, FORMAT)` asks for `section`: it runs once for every section of
every case of that reference class, with our module holding the reference's weights. FORMAT is the name of a published
format, or its `convert`.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.checkpoints import StateReader
from models.families import checkpoint_format

BESIDE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "golden"

Convert = Callable[[Mapping[str, Any], StateReader], nn.Module]


def pytest_addoption(parser):
    parser.addoption("--golden-dir", help="folder of parity cases (default: ../shared/golden)")


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "golden(repository, class, format): run for every section of that reference class"
    )


class RecordedDraws:
    """Hands out the reference's draws in their order, to the corruption as well as to the sampler."""

    def __init__(self, recorded: list[tuple[str, Tensor]]) -> None:
        self.recorded = recorded

    def take(self, kind: str, *shape: int) -> Tensor:
        """Return the next draw, which must be of that kind (`rng_kinds` of case.json) and shape."""
        found_kind, numbers = self.recorded.pop(0)
        assert (found_kind, tuple(numbers.shape)) == (kind, shape)
        return numbers

    def rand(self, *shape):
        return self.take("rand", *shape)

    def multinomial(self, weights_Q, count):
        return self.take("multinomial", count)

    def randint(self, low_B, high_B):
        drawn_B = self.take("randint", *low_B.shape)
        assert (low_B <= drawn_B).all()
        assert (drawn_B < high_B).all()
        return drawn_B

    def bernoulli(self, probabilities_BT):
        return self.take("bernoulli", *probabilities_BT.shape).bool()

    def tokens(self, lengths, candidates_BTk, n_codes):
        return self.take("uniform", *candidates_BTk.shape[:2], n_codes).gather(-1, candidates_BTk)

    def scores(self, lengths, n_frames):
        return self.take("uniform", len(lengths), n_frames)


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
    hooks: list[Any]

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[f"{self.name}.in.{name}"]

    def get(self, name: str) -> Tensor | None:
        return self.tensors.get(f"{self.name}.in.{name}")

    def record(self, module: nn.Module) -> list[Any]:
        """Collect what a module returns, call after call, until the test ends."""
        seen: list[Any] = []
        self.hooks.append(module.register_forward_hook(lambda _module, _inputs, output: seen.append(output)))
        return seen

    def run(self, by_kind: Mapping[str, Callable[["Section"], Mapping[str, Tensor]]]) -> None:
        """Check what the function for the first word of the section's name returns (`generate_cfg0`: generate)."""
        kind = self.name.split("_")[0]
        if kind not in by_kind:
            pytest.skip(f"no code for section {self.name}")
        with torch.no_grad():
            self.check(by_kind[kind](self))

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
def load_case(
    folder: Path, convert: Convert | str
) -> tuple[Mapping[str, Any], nn.Module, Mapping[str, Tensor]]:
    described = json.loads((folder / "case.json").read_text())
    reader = StateReader(folder.name, load_file(folder / "weights.safetensors"))
    if isinstance(convert, str):
        convert = checkpoint_format(convert).convert
    module = convert(described["constructor"], reader)
    return described, module, load_file(folder / "tensors.safetensors")


@pytest.fixture
def section(request) -> Iterator[Section]:
    folder, convert, name = request.param
    described, module, tensors = load_case(folder, convert)
    entry = next(entry for entry in described["sections"] if entry["name"] == name)
    keys = sorted(key for key in tensors if key.startswith(f"{name}.rng."))
    draws = RecordedDraws([(key.rsplit(".", 1)[1], tensors[key]) for key in keys])
    hooks: list[Any] = []
    yield Section(
        name, module, described["constructor"], entry["args"], entry["tensors"], tensors, draws, hooks
    )
    for hook in hooks:
        hook.remove()


def pytest_generate_tests(metafunc):
    asked = metafunc.config.getoption("golden_dir", default=None)
    cases = sorted(Path(asked or BESIDE_CHECKOUT).glob("*/case.json"))
    if asked and not cases:
        raise pytest.UsageError(f"--golden-dir {asked}: no case folder with a case.json in it")
    if "unknown_cases" in metafunc.fixturenames:
        tests = "\n".join(path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py")))
        unknown = {
            case.parent.name for case in cases if not all(f'"{name}"' in tests for name in class_of(case))
        }
        metafunc.parametrize("unknown_cases", [(unknown, {case.parent.name for case in cases})], ids=["all"])
    for marker in metafunc.definition.iter_markers("golden"):
        repository, reference_class, convert = marker.args
        found = [
            pytest.param((case.parent, convert, entry["name"]), id=f"{case.parent.name}-{entry['name']}")
            for case in cases
            if class_of(case) == (repository, reference_class)
            for entry in json.loads(case.read_text())["sections"]
        ]
        missing = pytest.mark.skip(reason=f"no case for {reference_class} in {asked or BESIDE_CHECKOUT}")
        metafunc.parametrize(
            "section", found or [pytest.param(None, marks=missing, id="none")], indirect=True
        )


def class_of(case: Path) -> tuple[str, str]:
    reference = json.loads(case.read_text())["reference"]
    return reference["repository"], reference["class"]
