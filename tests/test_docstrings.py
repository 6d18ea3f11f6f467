"""The words of house rules that a machine can check."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "catalog", "models", "pipelines", "trainers")
OPENINGS = {"What", "Which", "Whether", "Who", "How"}
DOCUMENTED = ast.FunctionDef | ast.ClassDef | ast.Module


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_docstring_says_what_the_thing_is_or_does(folder: str) -> None:
    """Not "What this is": the first word is a noun or a verb of the thing itself."""
    opened = [
        f"{path.relative_to(REPOSITORY)}: {text.splitlines()[0]}"
        for path in sorted((REPOSITORY / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node))
        if text.split()[0].rstrip(",:") in OPENINGS
    ]
    assert opened == []
