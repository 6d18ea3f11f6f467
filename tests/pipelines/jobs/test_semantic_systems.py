"""`convert` and `synthesize` with systems of semantic tokens, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipelines.__main__ import main

QUICK = {"first_steps": 1, "s2a_steps": [1, 1, 1]}


@pytest.fixture(scope="module", params=["maskgct_semantic", "autoencoder8d"])
def system(
    request: pytest.FixtureRequest, maskgct_parts: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    from models.system_files import save_system

    directory = tmp_path_factory.mktemp("systems") / request.param
    generators = {role: Path(maskgct_parts[role]) for role in ("t2s", "s2a_first", "s2a")}
    save_system(
        directory,
        request.param,
        codec=maskgct_parts["codec"],
        generators=generators,
        text={"kind": "phonemes"},
        options=QUICK | {"text": {"t2s_steps": 1}},
        codecs={"semantic": maskgct_parts["semantic"]},
    )
    return directory


def recording(path: Path, seconds: float, sample_rate: int, seed: int) -> Path:
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * sample_rate))
    soundfile.write(path, samples, sample_rate)
    return path


def test_a_recording_keeps_its_length(system: Path, tmp_path: Path) -> None:
    source = recording(tmp_path / "source.wav", 0.507, 22_050, 0)
    voice = recording(tmp_path / "voice.wav", 0.4, 44_100, 1)
    out = tmp_path / "out.wav"
    assert main(["convert", str(source), str(voice), str(out), "--model", str(system)]) == 0
    made = soundfile.info(out)
    assert made.samplerate == 24_000
    assert abs(made.frames - 0.507 * 24_000) <= 2


def test_given_phones_are_spoken(system: Path, tmp_path: Path) -> None:
    lines = [
        {"id": "one", "text": "one", "phones": ["w", "ʌ", "n"], "duration_s": 0.3},
        {"id": "free", "text": "two", "phones": ["t", "uː"]},
        {"id": "wrong", "text": "two", "phones": ["\ue000"]},
    ]
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    words = ["--input", str(tmp_path / "lines.jsonl"), "--output", str(tmp_path / "out")]
    assert main(["synthesize", *words, "--model", str(system)]) == 0
    assert soundfile.info(tmp_path / "out" / "one.wav").frames == 15 * 480
    # Four frames for each of t, u, ː, begin and end.
    assert soundfile.info(tmp_path / "out" / "free.wav").frames == 20 * 480
    manifest = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()
    reasons = [json.loads(line)["reason"] for line in manifest]
    assert reasons[:2] == [None, None]
    assert "has no phone" in reasons[2]
