"""`embed` as a whole, on Ray: a tree with the extractor's flags, a column of a dataset, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from catalog.datasets import Dataset
from catalog.token_columns import unpack_latents
from catalog.upkeep import verify
from models.semantic.source import EmbedderSource
from models.tokenizer_sources import load_embedder
from pipelines.__main__ import main
from pipelines.audio.decode import decode
from pipelines.prepare.job import prepare
from pipelines.prepare.settings import PrepareSettings


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["embed", *map(str, words)])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    return code, json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}, said.err


@pytest.fixture(scope="module")
def config(semantic_parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8-D latents, in small."""
    path = tmp_path_factory.mktemp("config") / "embed.yaml"
    parts = {"model" if name == "tokenizer" else name: value for name, value in semantic_parts.items()}
    path.write_text(yaml.safe_dump({"embedder": parts, "workers": 1}), encoding="utf-8")
    return path


@pytest.mark.ray
def test_a_tree(
    speech_folder: Path, config: Path, tmp_path: Path, ray_session: None, capsys: pytest.CaptureFixture[str]
) -> None:
    audio = tmp_path / "audio"
    shutil.copytree(speech_folder, audio / "part_001")
    (audio / "part_001" / "bad.wav").write_bytes(b"RIFF")
    folders = ["--audio-dir", audio, "--embedding-dir", tmp_path / "npy", "--json-dir", tmp_path / "json"]
    words = [*folders, "--config", config, "--batch-size", 2, "--part", "part_001", "--device", "cpu"]
    code, line, said = call(capsys, *words, "--max-files", 4)
    assert (code, line["files"], line["new_files"], line["rejected"]) == (0, 4, 3, 1), said
    assert f"rejected {audio}/part_001/bad.wav: " in said
    code, line, _ = call(capsys, *words)
    assert (code, line["files"], line["new_files"], line["rejected"]) == (0, 7, 3, 1)
    assert line["embedder"] == "repcodec@w2v-bert-2.0-layer-2-normalised"
    found = sorted(path.relative_to(tmp_path / "npy") for path in (tmp_path / "npy").rglob("*.npy"))
    assert found == [Path(f"part_001/utterance{index}.npy") for index in range(6)]
    assert np.load(tmp_path / "npy" / found[0]).shape[1] == 4
    code, _, said = call(capsys, *words, "--set", "embedder.layer=1")
    assert code == 1
    assert "its vectors are made by repcodec@w2v-bert-2.0-layer-2-normalised" in said


@pytest.mark.ray
def test_a_column_of_a_dataset(
    speech_folder: Path,
    semantic_parts: dict[str, Any],
    tmp_path: Path,
    ray_session: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Features of w2v-BERT, on which `fit` trains RepCodec."""
    plain = {"codec": {"name": "pcm-16khz"}, "resources": {"device": "cpu", "workers": 1}}
    prepare(str(speech_folder), str(tmp_path / "data"), PrepareSettings.model_validate(plain))
    words = ["--dataset", tmp_path / "data", "--kind", "w2v-bert", "--model", semantic_parts["features"]]
    words += ["--set", "embedder.layer=2", "--set", "workers=1"]
    code, line, said = call(capsys, *words)
    assert code == 0, said
    assert line["rewritten_files"] > 0
    dataset = Dataset.open(tmp_path / "data")
    assert verify(dataset) == []
    rows = [
        row for split in ("train", "validation") for row in dataset.read(["id", "latents"], split).to_pylist()
    ]
    assert len(rows) == 6
    embedder = load_embedder(EmbedderSource("w2v-bert", semantic_parts["features"], layer=2))
    for row in rows:
        wave_T = torch.from_numpy(np.array(decode(speech_folder / row["id"], 16_000).samples))
        expected = embedder.embed(wave_T[None], torch.tensor([len(wave_T)])).latents_BTD[0]
        np.testing.assert_allclose(unpack_latents(row["latents"], 32), expected.numpy(), atol=2e-2)
    code, line, _ = call(capsys, *words)
    assert (code, line["rewritten_files"], line["version"]) == (0, 0, dataset.version)


def test_bad_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = call(capsys, "--audio-dir", tmp_path)
    assert (code, "--embedding-dir is missing; give it, or --dataset" in said) == (2, True)
    code, _, said = call(capsys, "--audio-dir", tmp_path, "--dataset", "data")
    assert (code, "--dataset fills a column; give it, or --audio-dir" in said) == (2, True)
    folders = ["--audio-dir", tmp_path, "--embedding-dir", tmp_path / "npy", "--json-dir", tmp_path / "json"]
    code, _, said = call(capsys, *folders)
    assert (code, "holds no recordings" in said) == (2, True)
    code, _, said = call(capsys, *folders, "--set", "embedder.kind=speaker")
    assert (code, "model is empty; kind speaker needs one" in said) == (2, True)
