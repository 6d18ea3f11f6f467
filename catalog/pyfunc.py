"""A registered model as an MLflow pyfunc: its table of inputs, its folder, and the model inside."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

if TYPE_CHECKING:
    from mlflow.models import ModelSignature


def system_signature(capabilities: Sequence[str] = ("speak",)) -> ModelSignature:
    """The table that a system takes: text to speak (optionally with a voice prompt: a WAV file's bytes, and what it
    says), or the bytes of a source and a reference recording to convert. A WAV file's bytes come out.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    speak = [
        ColSpec("string", "text", required="convert" not in capabilities),
        ColSpec("binary", "prompt", required=False),
        ColSpec("string", "prompt_text", required=False),
        ColSpec("string", "language", required=False),
    ]
    convert = [
        ColSpec("binary", name, required="speak" not in capabilities) for name in ("source", "reference")
    ]
    return ModelSignature(
        inputs=Schema(
            (speak if "speak" in capabilities else []) + (convert if "convert" in capabilities else [])
        ),
        outputs=Schema([ColSpec("binary", "audio"), ColSpec("long", "sample_rate")]),
        params=ParamSchema([ParamSpec("seed", "long", 0)]),
    )


def save_pyfunc(
    path: Path,
    directory: Path,
    script: Path,
    model_id: str,
    run_id: str | None,
    signature: ModelSignature | None,
    pip_requirements: Sequence[str],
) -> None:
    """Make `path`, the folder of a pyfunc: a models-from-code script, and a model's directory as artifact `system`.

    `signature` is `system_signature()` if None.
    """
    import mlflow.pyfunc
    from mlflow.models import Model

    # It warns that type hints and an input example are missing; the signature is explicit. Recording what it says is
    # the only way to keep it quiet, because MLflow sets its own filter.
    with warnings.catch_warnings(record=True):
        mlflow.pyfunc.save_model(
            path,
            python_model=str(script),
            artifacts={"system": str(directory)},
            signature=signature or system_signature(),
            pip_requirements=list(pip_requirements),
            mlflow_model=Model(model_id=model_id, run_id=run_id),
        )


def system_folder(folder: Path) -> Path:
    """Inside a pyfunc's files the model is one of its artifacts; otherwise it is the folder."""
    description = folder / "MLmodel"
    if not description.is_file():
        return folder
    flavors = yaml.safe_load(description.read_text(encoding="utf-8"))["flavors"]
    return folder / str(flavors["python_function"]["artifacts"]["system"]["path"])
