"""A published checkpoint becomes a registered generator; what is not one is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from catalog.models import resolve
from models.generators import load_generator
from trainers.__main__ import main

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden" / "choi_t2s"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The reference's own weights, in the layout of a hub repository."""
    if not GOLDEN.is_dir():
        pytest.skip("needs the parity vectors beside the checkout (../shared/golden)")
    folder = tmp_path / "published"
    folder.mkdir()
    shutil.copy(GOLDEN / "weights.safetensors", folder / "model.safetensors")
    constructor = json.loads((GOLDEN / "case.json").read_text())["constructor"]
    (folder / "config.json").write_text(json.dumps(constructor))
    return folder


@pytest.fixture
def run_import(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    def call(folder: Path, *words: str) -> tuple[int, Any, str]:
        code = main(["import", "choihkk-maskgct-t2s", str(folder), "--name", "published", *words])
        out, err = capfd.readouterr()
        return code, json.loads(out.strip().splitlines()[-1]) if out.strip() else None, err

    return call


def test_import_registers_a_generator(checkpoint: Path, run_import: Any, mlflow_uri: str) -> None:
    code, result, error = run_import(checkpoint, "--alias", "champion")
    assert code == 0, error
    assert (result["family"], result["version"]) == ("maskgct_t2s", 1)
    family, module = load_generator(resolve("models:/published@champion", mlflow_uri))
    assert family == "maskgct_t2s"
    assert sum(p.numel() for p in module.parameters()) == result["parameters"]


def test_left_over_keys_are_listed(checkpoint: Path, run_import: Any, mlflow_uri: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    save_file({**weights, "surplus.weight": torch.zeros(1)}, checkpoint / "model.safetensors")
    code, _, error = run_import(checkpoint)
    assert code == 1
    assert "is no choihkk-maskgct-t2s" in error
    assert "surplus.weight" in error


def test_what_is_no_checkpoint_is_refused(tmp_path: Path, run_import: Any, mlflow_uri: str) -> None:
    code, _, error = run_import(tmp_path)
    assert code == 1
    assert "must hold config.json and one of model.safetensors, pytorch_model.bin, model.pt" in error
    (tmp_path / "config.json").write_text("{}")
    torch.save([1, 2], tmp_path / "model.pt")
    assert "model.pt is not a state dict: it must map names to tensors" in run_import(tmp_path)[2]
    (tmp_path / "model.pt").write_bytes(b"nothing")
    assert "model.pt is not a file of tensors" in run_import(tmp_path)[2]
