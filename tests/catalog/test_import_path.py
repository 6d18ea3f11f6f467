"""The import path of child processes: our packages where this process has them, never the working directory."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from catalog.import_path import import_path, own_packages_only

ROOT = str(Path(__file__).resolve().parents[2])


def test_a_folder_that_is_imported_from_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/somewhere", ROOT])
    monkeypatch.setenv("PYTHONPATH", "/given")
    assert import_path() == [ROOT, "/given"]


def test_the_checkout_of_an_editable_installation_is_not_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/site-packages"])
    monkeypatch.setenv("PYTHONPATH", "")
    assert import_path() == []


def test_empty_entries_which_mean_the_working_directory_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/site-packages"])
    monkeypatch.setenv("PYTHONPATH", ":/given::/given")
    assert import_path() == ["/given"]


class Config:
    """As Ray's, which adds the working directory unless a job brings one."""

    def __init__(self, _py_driver_sys_path: list[str], runtime_env: dict[str, str] | None = None) -> None:
        self.paths, self.environment = _py_driver_sys_path, runtime_env

    def _runtime_env_has_working_dir(self) -> bool:
        return False


def test_workers_and_children_import_nothing_from_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", [ROOT])
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    found = own_packages_only(Config)
    assert found._runtime_env_has_working_dir()
    assert found.paths == [ROOT]
    assert (os.environ["PYTHONSAFEPATH"], os.environ["PYTHONPATH"]) == ("1", ROOT)


@pytest.mark.parametrize(
    ("python", "address", "environment"),
    [
        ("/usr/bin/python3.11", "local", None),
        ("/home/a b/.venv/bin/python", "local", {"py_executable": "'/home/a b/.venv/bin/python'"}),
        ("/home/a b/.venv/bin/python", "10.0.0.1:6379", None),
    ],
)
def test_an_interpreter_below_a_name_with_a_space_is_quoted_for_the_shell(
    monkeypatch: pytest.MonkeyPatch, python: str, address: str, environment: dict[str, str] | None
) -> None:
    """Of a Ray that this process starts: the machines of another one have their own."""
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    assert own_packages_only(Config).environment == environment


def test_every_ray_is_started_so() -> None:
    starts = 0
    for package in ("pipelines", "trainers", "catalog", "models"):
        for path in (Path(ROOT) / package).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "ray.init":
                    starts += 1
                    assert "job_config" in {keyword.arg for keyword in call.keywords}, path
    assert starts == 2
