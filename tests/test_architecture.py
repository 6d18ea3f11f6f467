"""The import arrows of docs/architecture.md, read from every module's syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
OURS = {"pipelines", "models", "trainers", "catalog"}
ALLOWED = {
    "models": {"models"},
    "catalog": {"catalog"},
    "pipelines": {"pipelines", "models", "catalog"},
    "trainers": {"trainers", "models", "catalog"},
}
FORBIDDEN = {
    "models": {"ray", "mlflow", "deltalake", "pydantic", "soundfile", "whisperx", "dac"},
    "catalog": {"torch", "ray"},
    "trainers": {"ray", "mlflow"},
    "pipelines": {"mlflow"},
}
# The files that may import what their package otherwise may not.
EXCEPTIONS = {
    "trainers/ray_backend.py": {"ray"},
    "trainers/tracking.py": {"mlflow"},
    "trainers/pyfunc.py": {"mlflow"},
}
# What a GPU machine with torch, torchaudio, transformers, safetensors, pyarrow and numpy can run.
LEAN = (
    "trainers/loop.py",
    "trainers/data.py",
    "trainers/optim.py",
    "trainers/checkpoint.py",
    "trainers/objectives/",
)
LEAN_TOP_LEVEL = {
    "torch",
    "torchaudio",
    "transformers",
    "safetensors",
    "pyarrow",
    "numpy",
    "models",
    "trainers",
}


def _modules() -> list[Path]:
    return sorted(path for package in OURS for path in (REPOSITORY / package).rglob("*.py"))


def _imports(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_arrows(path: Path) -> None:
    relative = path.relative_to(REPOSITORY).as_posix()
    package = relative.split("/")[0]
    imported = _imports(ast.parse(path.read_text(encoding="utf-8")))
    assert imported & OURS <= ALLOWED[package], f"{relative} imports {imported & OURS - ALLOWED[package]}"
    forbidden = FORBIDDEN[package] - EXCEPTIONS.get(relative, set())
    assert not imported & forbidden, f"{relative} imports {imported & forbidden}"


def _top_level_imports(tree: ast.Module) -> set[str]:
    statements = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return _imports(ast.Module(body=list(statements), type_ignores=[]))


@pytest.mark.parametrize(
    "path",
    [p for p in _modules() if p.relative_to(REPOSITORY).as_posix().startswith((*LEAN, "models/"))],
    ids=lambda path: str(path.relative_to(REPOSITORY)),
)
def test_models_and_loop_run_on_a_lean_machine(path: Path) -> None:
    import sys

    extra = _top_level_imports(ast.parse(path.read_text(encoding="utf-8"))) - LEAN_TOP_LEVEL
    assert not {name for name in extra if name not in sys.stdlib_module_names}


def test_families_do_not_import_each_other() -> None:
    families = {
        "maskgct_t2s",
        "maskgct_s2a",
        "valle",
        "soundstorm",
        "flow_matching",
        "toktts",
        "autoencoder8d",
    }
    for family in families:
        path = REPOSITORY / "models" / f"{family}.py"
        if path.exists():
            text = path.read_text(encoding="utf-8")
            others = [other for other in families - {family} if f"models.{other}" in text]
            assert not others, f"{family} imports {others}"
