"""The locked environment: what must be there, and what must not."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def test_torchvision_is_absent_and_transformers_works_without_it() -> None:
    assert importlib.util.find_spec("torchvision") is None
    from transformers import WhisperProcessor, pipeline

    assert callable(pipeline)
    assert WhisperProcessor.__name__ == "WhisperProcessor"


def test_torchaudio_and_whisperx_import() -> None:
    import torchaudio
    import whisperx

    assert torchaudio.__version__.startswith("2.11")
    assert callable(whisperx.load_model)


def test_lock_names_no_address_and_holds_every_dependency() -> None:
    lock = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert "--index" not in lock
    locked = {line.split("==")[0].strip().lower() for line in lock.splitlines() if "==" in line}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for requirement in project["dependencies"] + extras["dev"] + extras["evaluation"]:
        name = requirement.split("=")[0].split(">")[0].split("[")[0].strip().lower().replace("_", "-")
        assert name in locked, f"{name} is not in requirements.lock"
