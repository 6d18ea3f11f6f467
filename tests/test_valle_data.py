"""Both dataset forms of VALL-E's users become datasets, and both of its networks are trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import speechmill
from catalog.appending import Appender
from catalog.codes import stored
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.system_files import load_system, save_system

CODEC = "mill-16khz@1"
PHONES = [["h", "ə", "lˈ", "oʊ"], ["w", "ˈʌ", "n", " ", "."], ["tˈ", "uː", "?"], ["p", "a"]]
MODEL = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "prompt_levels": 2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight utterances of two speakers, and four to validate with."""
    identity = load_codec(CODEC).identity
    names = [f"{number}" for number in range(12)]
    frames = [10 + number for number in range(12)]
    draws = np.random.default_rng(0)
    codes = [
        draws.integers(0, identity.codebook_size, (identity.n_codebooks, size)).astype(np.int16)
        for size in frames
    ]
    table = pa.table(
        {
            "id": names,
            "recording_id": names,
            "speaker": [f"speaker{number % 2}" for number in range(12)],
            "phonemes": [PHONES[number % 4] for number in range(12)],
            "codes": stored(codes),
            "target_length": pa.array(frames, pa.int32()),
            "duration_s": [size * identity.hop_length / identity.sample_rate for size in frames],
            "split": ["train"] * 8 + ["validation"] * 4,
        }
    )
    appender = Appender(create(tmp_path_factory.mktemp("source") / "dataset", identity, {}))
    appender.append(write_shard(table, appender.uri, "test", identity))
    return appender.uri


def run(capfd: pytest.CaptureFixture[str], *words: str) -> Any:
    code = speechmill.main(list(words))
    out, error = capfd.readouterr()
    assert code == 0, error
    return json.loads(out.strip().splitlines()[-1])


@pytest.mark.parametrize("form", ["valle-tree", "valle-hdf5"])
def test_a_form_is_imported_trained_and_spoken(
    form: str, source: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    exported, dataset = str(tmp_path / "exported"), str(tmp_path / "dataset")
    run(capfd, "export", source, exported, "--format", form)
    told = run(capfd, "import-shards", exported, dataset, "--format", form, "--codec", CODEC)
    assert (told["utterances"], told["rejected"]) == (12, 0)
    kept = Dataset.open(dataset).read(["id", "phonemes", "speaker"]).sort_by("id").to_pydict()
    before = Dataset.open(source).read(["id", "phonemes", "speaker"]).sort_by("id").to_pydict()
    assert kept == before
    parts = {}
    for role in ("ar", "nar"):
        settings = {
            "family": f"valle_{role}",
            "model": MODEL,
            "objective": {"text": {"kind": "phonemes"}, "prompt_duration_s": 0.3},
            "data": {"dataset": dataset, "batch": {"max_samples": 4}},
            "loop": {"max_steps": 2, "samples": 0},
            "tracking": {"enabled": False},
            "output": str(tmp_path / role),
        }
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(settings))
        told = run(capfd, "train", str(tmp_path / "fit.yaml"))
        assert (told["steps"], told["rows_left_out"]) == (2, 0)
        assert np.isfinite(told["validation_loss"])
        parts[role] = tmp_path / role / "export"
    text = json.loads((parts["ar"] / "text.json").read_text())
    save_system(tmp_path / "system", "valle", codec=CODEC, generators=parts, text=text)
    task = load_system(tmp_path / "system").speak({"max_ar_steps": 5})
    assert task.options["max_ar_steps"] == 5
