"""Two generators trained, registered and joined speak through MLflow, in a process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient

from catalog.command import JobError
from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.families import system_kind
from models.generators import save_generator
from models.prompt import Prompt
from models.semantic import whisper
from models.semantic.hubert import Units, save_units
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.system import ConvertRequest
from models.system_files import load_system
from models.text.verbalize import EDITION
from trainers.assemble import AssembleSettings, _options, common_text, write_system

SPEAK = """
import io, json, sys, wave
import mlflow
import pandas as pd

mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/tiny@champion")
prompt = open(sys.argv[2], "rb").read()
rows = pd.DataFrame({"text": ["one two", "three"], "prompt": [None, prompt], "prompt_text": [None, "four"]})
found = model.predict(rows, params={"seed": 7})
again = model.predict(rows, params={"seed": 7})
lengths = [wave.open(io.BytesIO(audio)).getnframes() for audio in found["audio"]]
rates = [int(rate) for rate in found["sample_rate"]]
print(json.dumps({"lengths": lengths, "rates": rates, "equal": list(found["audio"]) == list(again["audio"])}))
"""


@pytest.fixture
def generators(
    tmp_path: Path, make_dataset: Callable[..., str], mlflow_uri: str, command: Any
) -> dict[str, Any]:
    """A T2S and an S2A generator, registered, of a few updates each."""
    codec = load_codec("mill-16khz@1")
    identity = {name: getattr(codec, name) for name in ("name", "edition", "weights_sha256")}
    uri = make_dataset(rows=12, validation=3, n_codebooks=8, codebook_size=codec.codebook_size, **identity)
    found = {}
    for part in ("t2s", "s2a"):
        settings = {
            "family": f"maskgct_{part}",
            "register": f"tiny-{part}",
            "model": {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "feed_forward_size": 16},
            "objective": {"sample_steps": 1},
            "data": {"dataset": uri},
            "loop": {"max_steps": 3, "validate_every": 2, "log_every": 1, "samples": 1},
            "output": str(tmp_path / part),
        }
        path = tmp_path / f"{part}.yaml"
        path.write_text(yaml.safe_dump(settings))
        code, found[part], error = command("fit", str(path))
        assert code == 0, error
    return found


def test_assembled_registered_and_spoken(
    generators: dict[str, Any], command: Any, mlflow_uri: str, tmp_path: Path
) -> None:
    parts = ["--part", "t2s=models:/tiny-t2s@best", "--part", f"s2a={tmp_path / 's2a' / 'export'}"]
    words = ["assemble", "maskgct", *parts, "--codec", "mill-16khz@1", "--name", "tiny"]
    short = ["--set", "options.t2s_steps=2", "--set", "options.s2a_steps=[1]"]
    code, plan, _ = command(*words, "--dry-run")
    assert code == 0
    assert 3 < _foretold(plan["options"], "one two", 9) < 45
    code, made, error = command(*words, *short, "--alias", "champion")
    assert code == 0, error
    assert (made["version"], made["options"]["t2s_steps"]) == (1, 2)
    _check_lineage(mlflow_uri, tmp_path)

    import torch

    from trainers.wav import wav_bytes

    prompt = tmp_path / "prompt.wav"
    prompt.write_bytes(wav_bytes(0.3 * torch.sin(torch.arange(9600) * 0.1), 24000))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    child = subprocess.run(
        [sys.executable, "-c", SPEAK, mlflow_uri, str(prompt)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=elsewhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    spoken = json.loads(child.stdout.strip().splitlines()[-1])
    four, three = (_foretold(made["options"], word, len(word)) for word in ("four", "three"))
    frames = [_foretold(made["options"], "one two", len("one two") + 2), 20 / four * three]
    expected = [320 * int(count + 1e-6) for count in frames]
    assert spoken == {"lengths": expected, "rates": [16000, 16000], "equal": True}


def _foretold(options: dict[str, float], text: str, size: int) -> float:
    rule = {"frames_per_word": 0.0, "frames_per_sentence": 0.0, **options}
    frames = rule["frames_per_token"] * size + rule["frames_per_word"] * len(text.split())
    return frames + rule["frames_per_sentence"]


def _check_lineage(uri: str, tmp_path: Path) -> None:
    """The version names its parts exactly, though `best` may move, and says how it is used."""
    version = MlflowClient(uri).get_model_version("tiny", "1")
    codec = load_codec("mill-16khz@1").identity
    wanted = {
        "family": "maskgct",
        "t2s": "models:/tiny-t2s/1",
        "s2a": str(tmp_path / "s2a" / "export"),
        "codec": "mill-16khz@1",
        "codec.sha256": codec.weights_sha256,
        "t2s.dataset": str(tmp_path / "dataset"),
        "t2s.dataset_version": "2",
    }
    assert wanted.items() <= version.tags.items(), version.tags
    assert json.loads(version.tags["text"]) == {"kind": "bytes", "normalize": "transcript"}
    weights = (tmp_path / "s2a" / "export" / "model.safetensors").read_bytes()
    assert version.tags["s2a.sha256"] == hashlib.sha256(weights).hexdigest()
    card = version.description
    assert card.startswith("# tiny\n\nA maskgct system: it speaks, at 16000 Hz.\n")
    for said in (
        "| t2s | `models:/tiny-t2s/1` |",
        f"- codec: `mill-16khz@1`, weights {codec.weights_sha256[:12]}",
        f"- s2a: `{tmp_path / 'dataset'}`, version 2; its source states no licence",
        "speechmill synthesize --model models:/tiny --text",
    ):
        assert said in card


def test_parts_that_do_not_fit_are_refused(generators: dict[str, Any], command: Any, tmp_path: Path) -> None:
    t2s, s2a = (str(tmp_path / part / "export") for part in ("t2s", "s2a"))

    def refusal(*words: str) -> str:
        code, _, error = command("assemble", "--name", "tiny", *words)
        assert code == 1
        assert len(error.strip().splitlines()) == 1
        return error

    error = refusal("--t2s", t2s, "--s2a", s2a, "--codec", "pcm-16khz")
    assert f"t2s {t2s} was trained on codes of mill-16khz@1: the codec is pcm-16khz@1" in error
    error = refusal("--t2s", s2a, "--s2a", t2s, "--codec", "mill-16khz@1")
    assert "generator t2s is a maskgct_s2a; it must be a maskgct_t2s" in error
    error = refusal("--t2s", "models:/nobody@best", "--s2a", s2a, "--codec", "mill-16khz@1")
    assert "models:/nobody@best: no such directory or registered model" in error
    error = refusal("--t2s", t2s, "--s2a", s2a, "--codec", "mill-16khz@1", "--set", "options.stepps=3")
    assert "unknown key 'stepps' in the options of maskgct; did you mean 't2s_steps'" in error
    record = tmp_path / "t2s" / "export" / "training.json"
    record.write_text(record.read_text().replace(load_codec("mill-16khz@1").weights_sha256, "f" * 64))
    error = refusal("--t2s", t2s, "--s2a", s2a, "--codec", "mill-16khz@1")
    assert "with the weights ffffffffffff: the weights of mill-16khz@1 are now" in error


def test_parts_of_two_editions_of_the_spoken_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, no refusal: numbers are all that may differ. The oldest edition is recorded, so speaking warns, too."""

    def common(*editions: str | None) -> dict[str, Any]:
        parts = {}
        for role, edition in zip(("t2s", "s2a"), editions, strict=True):
            parts[role] = tmp_path / role
            parts[role].mkdir(exist_ok=True)
            text = {"kind": "bytes", "normalize": "spoken", "language": "en"}
            text |= {"spoken_forms": edition} if edition else {}
            (parts[role] / "text.json").write_text(json.dumps(text))
        return common_text(parts, {role: str(part) for role, part in parts.items()})

    assert common("2", "2")["spoken_forms"] == "2"
    assert common("1", None)["spoken_forms"] == "1"
    assert capsys.readouterr().err == ""
    assert common("10", "9")["spoken_forms"] == "9"
    assert capsys.readouterr().err == (
        f"numbers are said by edition {EDITION} of the spoken forms; t2s on edition 10, s2a on edition 9: "
        "some may be known otherwise\n"
    )
    assert "spoken_forms" not in common("2", None)
    assert "t2s on edition 2, s2a on edition 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vall", "--part", "t2s=x"], "unknown system family 'vall'; known: "),
        (["maskgct", "--part", "ar=x"], "--part ar: a maskgct system has no such part; its parts: t2s, s2a"),
        (["maskgct", "--part", "t2s=x"], "a maskgct system needs --part s2a=SOURCE"),
        (["maskgct", "--part", "t2s"], "--part 't2s': must be ROLE=SOURCE"),
        (["--t2s", "x", "--part", "t2s=y"], "--part 't2s=y': the part t2s is given twice"),
    ],
)
def test_wrong_parts_are_usage_errors(command: Any, words: list[str], message: str) -> None:
    code, _, error = command("assemble", *words, "--codec", "mill-16khz", "--name", "tiny")
    assert code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_frames_a_token_a_word_and_a_sentence_are_one_measurement() -> None:
    """That of the first part that has it; an older part has no frames a sentence, and a given value replaces both."""
    both, mean = {"frames_per_token": 5.0, "frames_per_sentence": 9.0}, {"frames_per_token": 7.0}
    kind = system_kind("maskgct")

    def options(t2s: dict[str, float], s2a: dict[str, float], **given: float) -> dict[str, Any]:
        return _options(kind, {"t2s": {"statistics": t2s}, "s2a": {"statistics": s2a}}, given)

    assert options(both, mean) == options({}, both) == both
    assert options(mean, both) == mean
    assert options(both, both, frames_per_token=6.0) == {"frames_per_token": 6.0}
    assert options(both, both, frames_per_sentence=0.0) == {**both, "frames_per_sentence": 0.0}


def test_cells_become_the_system_s_own_with_their_features(tiny_whisper: Path, tmp_path: Path) -> None:
    """A part may be what fit-units wrote; the system keeps it, and where its features are."""
    features = whisper.load(tiny_whisper)
    cells_VD = torch.randn(5, features.identity.channels, generator=torch.Generator().manual_seed(0))
    save_units(Units(features, cells_VD), tmp_path / "cells")
    codec = load_codec("mill-16khz")
    config = SoundStormConfig(
        hidden_size=16, n_layers=1, n_heads=2, feed_forward_size=16, conv_kernel_size=3,
        n_semantic_tokens=5, n_codebooks=codec.n_codebooks, codebook_size=codec.codebook_size,
    )  # fmt: skip
    save_generator(SoundStorm(config), "soundstorm", tmp_path / "soundstorm")
    given = {"soundstorm": str(tmp_path / "soundstorm"), "semantic": str(tmp_path / "cells")}
    settings = AssembleSettings(semantic={"features": str(tiny_whisper)}, options={"steps": 2})
    write_system(tmp_path / "system", "soundstorm", given, "mill-16khz", settings, uri="sqlite:///none.db")
    (tmp_path / "cells").rename(tmp_path / "elsewhere")
    task = load_system(tmp_path / "system").convert({})
    wave = Wave(
        torch.randn(1, 8_000, generator=torch.Generator().manual_seed(1)), torch.tensor([8_000]), 16_000
    )
    row = task.prepare(ConvertRequest(wave, Prompt(wave)))
    assert task.run([row], [torch.Generator().manual_seed(0)])[0].wave.lengths_B.tolist() == [8_000]


def test_what_cannot_be_used_leaves_nothing(generators: dict[str, Any], command: Any, tmp_path: Path) -> None:
    t2s, s2a = (str(tmp_path / part / "export") for part in ("t2s", "s2a"))
    store = tmp_path / "stores" / "none.db"

    def refused(*words: str, t2s: str = t2s) -> str:
        given = [
            "--t2s",
            t2s,
            "--s2a",
            s2a,
            "--codec",
            "mill-16khz@1",
            "--tracking-uri",
            f"sqlite:///{store}",
        ]
        code, _, error = command("assemble", *given, *words)
        assert code in (1, 2)
        assert len(error.strip().splitlines()) == 1
        assert not store.parent.exists()
        return str(error)

    assert "nowhere: no such directory or registered model" in refused("--name", "tiny", t2s="nowhere")
    assert "model name 'a/b'" in refused("--name", "a/b")
    assert "alias 'not this': must be letters" in refused("--name", "tiny", "--alias", "not this")
    error = refused("--name", "tiny", "--set", "options.frames_per_token=.inf")
    assert "frames_per_token is inf in the options of maskgct; it must be finite" in error
    assert "t2s_steps is 'x' in the options of maskgct; it must be a whole number" in refused(
        "--name", "tiny", "--set", "options.t2s_steps=x"
    )
    broken = tmp_path / "broken"
    shutil.copytree(t2s, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(
        json.dumps({**config, "config": {**config["config"], "n_layers": "1"}})
    )
    assert f"{broken}/config.json: n_layers is '1'; it must be" in refused("--name", "tiny", t2s=str(broken))
    (broken / "model.safetensors").unlink()
    assert f"{broken}/config.json: " in refused("--name", "tiny", t2s=str(broken))


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ("{", "training.json is not JSON: "),
        ("[]", "training.json holds list; it must be an object"),
        ('{"data": 5}', "training.json: data is 5; it must be an object"),
        ('{"statistics": []}', "training.json: statistics is []; it must be an object"),
        ('{"data": {"codec": 5}}', "its training.json does not describe codecs: "),
    ],
)
def test_a_damaged_record_is_named(tmp_path: Path, record: str, rule: str) -> None:
    for role in ("t2s", "s2a"):
        (tmp_path / role).mkdir()
        (tmp_path / role / "training.json").write_text(record)
    parts = {role: str(tmp_path / role) for role in ("t2s", "s2a")}
    with pytest.raises((ValueError, JobError), match=re.escape(rule)):
        write_system(
            tmp_path / "system",
            "maskgct",
            parts,
            "pcm-16khz",
            AssembleSettings(),
            uri=f"sqlite:///{tmp_path}/no.db",
        )
    assert {path.name for path in tmp_path.iterdir()} == {"t2s", "s2a"}
