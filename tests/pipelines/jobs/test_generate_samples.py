"""`generate-samples`: a tiny toktts speaks texts of both splits and given ones, beside the recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import speechmill
from catalog.datasets import Dataset
from models.codec_sources import load_codec
from models.codecs.interface import identity_of
from models.generators import save_generator
from models.system_files import save_system
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("system")
    torch.manual_seed(0)
    sizes = {"encoder_size": 16, "encoder_layers": 1, "encoder_heads": 2, "text_positions": 16}
    sizes |= {"decoder_size": 16, "decoder_layers": 1, "decoder_heads": 2, "token_positions": 32}
    save_generator(TokTTS(TokTTSConfig(**sizes)), "toktts", folder / "toktts")
    parts = {"toktts": folder / "toktts"}
    save_system(folder / "system", "toktts", codec="mill-16khz@1", generators=parts, text={"kind": "byt5"})
    return folder / "system"


def row(name: str, split: str, text: str) -> dict[str, Any]:
    wave = (8000 * np.sin(np.arange(4000) / 9)).astype(np.int16)
    return {
        **{"id": name, "recording_id": name.partition("#")[0], "split": split, "codes": wave[None]},
        **{"target_length": len(wave), "duration_s": 0.25, "text": text, "language": "en"},
    }


@pytest.fixture
def dataset(make_dataset: Any) -> Dataset:
    rows = [row(f"a/{index}.wav", "train", "one") for index in range(3)]
    rows += [
        row("a/0.wav#aug1", "train", "one"),
        row("b", "validation", "two"),
        row("c", "validation", "x" * 40),
    ]
    dataset: Dataset = make_dataset(rows, identity_of(load_codec("pcm-16khz")))
    return dataset


def test_both_splits_and_given_texts_are_spoken(
    system: Path, dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "samples"
    words = ["generate-samples", "--model", str(system), "--dataset", dataset.uri, "--limit", "5"]
    assert speechmill.main([*words, "--text", "four", "--text", "five", "-o", str(output)]) == 0
    found = {path.relative_to(output).as_posix() for path in output.rglob("*.*")}
    train = [f"train/a%2F{index}%2Ewav" for index in range(3)]
    spoken = {*train, "validation/b", "custom/0001", "custom/0002"}
    expected = {f"{name}{ending}" for name in spoken for ending in (".txt", ".wav")}
    expected |= {f"{name}_ref.wav" for name in (*train, "validation/b", "validation/c")}
    assert found == expected | {"validation/c.txt"}
    assert (output / "custom" / "0002.txt").read_text(encoding="utf-8") == "five\n"
    assert soundfile.info(output / "train" / "a%2F0%2Ewav_ref.wav").frames == 4000
    assert soundfile.info(output / "validation" / "b.wav").samplerate == 16_000
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    (reason,) = result["rejected"]
    assert result["sentences"] == 7
    assert "has 41 tokens; the most is 16" in reason
    assert sum(result["finish_reasons"].values()) == 6


def test_bad_usage_is_one_line(system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate-samples", "--model", str(system), "-o", str(tmp_path)]
    assert speechmill.main(words) == 2
    assert "nothing to speak: give --dataset, --text or both" in capsys.readouterr().err
    assert speechmill.main([*words, "--text", "one", "--limit", "0"]) == 2
    assert "--limit 0: must be at least 1" in capsys.readouterr().err
    assert speechmill.main([*words, "--text", "one", "--set", "sampling.num_beam=2"]) == 1
    assert "did you mean 'num_beams'" in capsys.readouterr().err
