"""The import path of child processes: our packages where this process has them, never the working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from catalog.import_path import import_path

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
