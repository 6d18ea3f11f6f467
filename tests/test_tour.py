"""docs/tour.ipynb: its cells run in order, with a smaller corpus and seconds of training; it holds no outputs."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "tour.ipynb"
SMALLER = {"MINUTES = 4.5": "MINUTES = 0.02", "REPEATS, PHRASES = 10, 800": "REPEATS, PHRASES = 1, 8"}


def cells(kind: str) -> list[str]:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def test_it_holds_no_outputs_and_its_links_exist() -> None:
    found = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    for target in re.findall(r"\]\(([^)#]+)\)", "\n".join(cells("markdown"))):
        assert (NOTEBOOK.parent / target).exists(), target


@pytest.mark.ray
@pytest.mark.slow
def test_every_cell_runs(
    ray_session: None, mlflow_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tour").mkdir()
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "tour" / "mlflow.db")
    names: dict[str, object] = {}
    for cell in cells("code"):
        for written, smaller in SMALLER.items():
            cell = cell.replace(written, smaller)
        exec(compile(cell, NOTEBOOK.name, "exec"), names)
    assert all(written in "".join(cells("code")) for written in SMALLER)
    assert (tmp_path / "tour" / "report.html").stat().st_size > 1000
    wave = getattr(names["speech"], "wave")  # noqa: B009
    assert wave.wave_BT.shape[1] > 1000
