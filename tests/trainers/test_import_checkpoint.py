"""A published checkpoint becomes a registered generator; what is not one is refused in words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from catalog.models import resolve
from models.codec_sources import load_codec_directory
from models.generators import load_generator
from trainers.__main__ import main

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"


def published(case: str, folder: Path) -> Path:
    """The reference's own weights of a parity case, in the layout of a hub repository."""
    if not GOLDEN.is_dir():
        pytest.skip("needs the parity vectors beside the checkout (../shared/golden)")
    folder.mkdir()
    shutil.copy(GOLDEN / case / "weights.safetensors", folder / "model.safetensors")
    constructor = json.loads((GOLDEN / case / "case.json").read_text())["constructor"]
    (folder / "config.json").write_text(json.dumps(constructor))
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return published("choi_t2s", tmp_path / "published")


@pytest.fixture
def run_import(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    def call(folder: Path, *words: str, source: str = "choihkk-maskgct-t2s") -> tuple[int, Any, str]:
        code = main(["import", source, str(folder), "--name", "published", *words])
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


def test_import_registers_a_semantic_tokenizer(tmp_path: Path, run_import: Any, mlflow_uri: str) -> None:
    code, result, error = run_import(published("repcodec", tmp_path / "published"), source="amphion-repcodec")
    assert code == 0, error
    family, module = load_generator(resolve("models:/published/1", mlflow_uri))
    assert (family, result["family"]) == ("repcodec", "repcodec")
    assert module.config.feature_size == 48


def test_import_registers_codecs(tmp_path: Path, run_import: Any, mlflow_uri: str) -> None:
    """Laid out as they are released: two files, or a configuration that holds settings of the training, too."""
    halves = published("amphion_acoustic_codec", tmp_path / "maskgct")
    weights = load_file(halves / "model.safetensors")
    for side, name in (("encoder", "model.safetensors"), ("decoder", "model_1.safetensors")):
        bare = {key.removeprefix(f"{side}."): one for key, one in weights.items() if key.startswith(side)}
        save_file(bare, halves / name)
    single = published("speechtokenizer", tmp_path / "speechtokenizer")
    torch.save(load_file(single / "model.safetensors"), single / "SpeechTokenizer.pt")
    config = json.loads((single / "config.json").read_text()) | {"learning_rate": 1e-4}
    (single / "config.json").write_text(json.dumps(config))
    for version, (source, folder) in enumerate(
        {"amphion-codec": halves, "speechtokenizer": single}.items(), 1
    ):
        code, result, error = run_import(folder, source=source)
        assert code == 0, error
        assert (result["family"], result["version"]) == ("codec", version)
        codec = load_codec_directory(resolve(f"models:/published/{version}", mlflow_uri))
        assert (
            codec.encode(torch.zeros(1, 4800), torch.tensor([4800])).codes_BQT.shape[1] == codec.n_codebooks
        )


def test_left_over_keys_are_listed(checkpoint: Path, run_import: Any, mlflow_uri: str) -> None:
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
