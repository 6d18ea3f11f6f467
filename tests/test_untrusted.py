"""Model directories and corpora are data: no call that reads them may run what they bring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("catalog", "models", "pipelines", "trainers")
SAFE = {
    "torch.load": ("weights_only", True),
    "transformers.pipeline": ("trust_remote_code", False),
}
"""Calls that run code of what they read unless an argument forbids it."""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """Place, dotted name and node of every call."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", ast.unparse(node.func), node


def rule(name: str) -> tuple[str, bool] | None:
    owner, _, method = name.rpartition(".")
    if owner.rpartition(".")[2].startswith("Auto") and method in ("from_pretrained", "from_config"):
        return "trust_remote_code", False
    return SAFE.get(name)


def test_no_call_runs_the_code_of_what_it_reads() -> None:
    ruled = [(place, node, found) for place, name, node in calls() if (found := rule(name)) is not None]
    assert len(ruled) > 8
    loose = [
        f"{place}: {argument}={value} is missing"
        for place, node, (argument, value) in ruled
        if (argument, repr(value)) not in [(word.arg, ast.unparse(word.value)) for word in node.keywords]
    ]
    assert loose == []


@pytest.mark.parametrize(
    "name", ["pickle.load", "eval", "exec", "os.system", "yaml.unsafe_load", "torch.hub.load"]
)
def test_what_runs_anything_is_not_called(name: str) -> None:
    assert [place for place, called, _ in calls() if called == name] == []


@pytest.mark.parametrize("argument", ["shell", "allow_pickle"])
def test_what_is_off_by_default_is_not_switched_on(argument: str) -> None:
    on = [
        place
        for place, _, node in calls()
        for word in node.keywords
        if word.arg == argument and ast.unparse(word.value) != "False"
    ]
    assert on == []
