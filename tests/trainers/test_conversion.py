"""SoundStorm and a T2S trained for a few updates, registered, joined and promoted, convert and speak through MLflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from models.codec_sources import load_codec
from trainers.wav import wav_bytes

CONVERT = """
import io, json, sys, wave
import mlflow
import pandas as pd

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/tiny@champion")
source, voice = (open(path, "rb").read() for path in sys.argv[2:])
rows = pd.DataFrame({"source": [source, voice], "reference": [voice, voice]})
made = model.predict(rows, params={"seed": 7})
again = model.predict(rows, params={"seed": 7})
spoken = model.predict(pd.DataFrame({"text": ["one two"]}))

def lengths(table):
    return [wave.open(io.BytesIO(audio)).getnframes() for audio in table["audio"]]

print(json.dumps({"converted": lengths(made), "spoken": lengths(spoken), "equal": made.equals(again)}))
"""
SIZES = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16}


@pytest.fixture
def trained(
    tmp_path: Path, make_dataset: Callable[..., str], mlflow_uri: str, command: Any
) -> Callable[..., Path]:
    """trained(family, model settings): its export after three updates, registered as tiny-<family>."""
    codec = load_codec("mill-16khz@1")
    identity = {name: getattr(codec, name) for name in ("name", "edition", "weights_sha256")}
    uri = make_dataset(rows=12, validation=3, n_codebooks=8, codebook_size=codec.codebook_size, **identity)

    def train(family: str, objective: dict[str, Any] | None = None, **model: Any) -> Path:
        settings = {
            "family": family,
            "register": f"tiny-{family}",
            "model": SIZES | model,
            "objective": {"sample_steps": 1, **(objective or {})},
            "data": {"dataset": uri},
            "loop": {"max_steps": 3, "validate_every": 2, "log_every": 1, "samples": 1},
            "output": str(tmp_path / family),
        }
        path = tmp_path / f"{family}.yaml"
        path.write_text(yaml.safe_dump(settings))
        code, result, error = command("fit", str(path))
        assert code == 0, error
        return Path(result["export"])

    return train


def test_assembled_registered_and_converted(
    trained: Callable[..., Path], command: Any, mlflow_uri: str, tmp_path: Path
) -> None:
    record = json.loads((trained("soundstorm", conv_kernel_size=3) / "training.json").read_text())
    assert record["objective"]["semantic"] == "codebook_0"
    trained("maskgct_t2s")
    parts = [
        f"{role}=models:/tiny-{name}@best"
        for role, name in (("soundstorm", "soundstorm"), ("t2s", "maskgct_t2s"))
    ]
    words = [word for part in parts for word in ("--part", part)]
    words += ["--codec", "mill-16khz@1", "--name", "tiny", "--alias", "champion"]
    code, made, error = command("assemble", "soundstorm", *words, "--set", "options.text.t2s_steps=2")
    assert code == 0, error
    assert set(made["options"]) == {"text"}
    assert {"frames_per_token", "t2s_steps"} <= set(made["options"]["text"])

    for name, rate in (("source", 24000), ("voice", 16000)):
        noise = 0.1 * torch.randn(rate // 2, generator=torch.Generator().manual_seed(rate))
        (tmp_path / f"{name}.wav").write_bytes(wav_bytes(noise, rate))
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            CONVERT,
            mlflow_uri,
            str(tmp_path / "source.wav"),
            str(tmp_path / "voice.wav"),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.strip().splitlines()[-1])
    text = made["options"]["text"]
    spoken = (len("one two") + 2) * text["frames_per_token"] + 2 * text.get("frames_per_word", 0.0)
    spoken = int(spoken + text.get("frames_per_sentence", 0.0) + 1e-6) * 320
    assert found == {"converted": [8000, 8000], "spoken": [spoken], "equal": True}


def test_flows_are_trained_and_assembled(trained: Callable[..., Path], command: Any) -> None:
    sizes = {"backbone": "conformer", "conv_kernel_size": 3}
    for family, objective in (
        ("flow_matching", {}),
        ("flow_matching_hierarchical", {"semantic": "codebook_0"}),
    ):
        export = trained(family, objective, **sizes)
        words = ["assemble", family, "--part", f"flow_matching={export}", "--name", "tiny"]
        code, made, error = command(*words, "--codec", "mill-16khz@1")
        assert code == 0, error
        assert made["version"] >= 1
        code, _, error = command(*words, "--codec", "pcm-16khz")
        assert code == 1
        assert f"flow_matching {export} was trained on codes of mill-16khz@1: the codec is pcm-16khz" in error
    words = ["assemble", family, "--part", f"flow_matching={export}", "--part", "semantic=pcm-16khz"]
    code, _, error = command(*words, "--codec", "mill-16khz@1", "--name", "tiny")
    assert code == 1
    assert "the codec is pcm-16khz@1; --part semantic=SOURCE gives another one" in error
