"""`fit-units`: on Ray the same cells as here, to the bit; they make tokens; refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.semantic import k_means
from models.semantic.source import EmbedderSource, TokenizerSource
from models.tokenizer_sources import load_embedder, load_tokenizer
from pipelines.__main__ import main
from pipelines.execution.embedding_tree import MAKER


@pytest.fixture(scope="module")
def tree(semantic_parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors as `embed --kind w2v-bert` leaves them."""
    folder = tmp_path_factory.mktemp("vectors")
    embedder = load_embedder(EmbedderSource("w2v-bert", semantic_parts["features"], layer=2))
    (folder / MAKER).write_text(embedder.identity.to_json())
    generator = np.random.default_rng(0)
    for number in range(5):
        frames = generator.standard_normal((int(generator.integers(20, 60)), 32)).astype(np.float32)
        (folder / f"part_{number % 2}").mkdir(exist_ok=True)
        np.save(folder / f"part_{number % 2}" / f"{number}.npy", frames)
    return folder


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["fit-units", *map(str, words)])
    said = capsys.readouterr()
    lines = said.out.splitlines()
    return code, json.loads(lines[-1]) if lines else {}, said.err


@pytest.mark.ray
def test_cells_are_those_of_one_process(
    tree: Path,
    semantic_parts: dict[str, Any],
    ray_session: None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [tree, tmp_path / "units", "--cells", 6, "--iterations", 3, "--seed", 4]
    code, line, said = call(capsys, *words, "--set", "block_bytes=1")
    assert code == 0, said
    assert "pass 3 of 3: mean squared distance" in said
    blocks = [torch.from_numpy(np.load(path)) for path in sorted(tree.rglob("*.npy"))]
    assert line["vectors"] == sum(map(len, blocks))
    expected_VD = k_means.fit(k_means.in_memory(lambda: blocks), 6, 3, 4)
    source = TokenizerSource(str(tmp_path / "units"), features=semantic_parts["features"])
    tokenizer: Any = load_tokenizer(source)
    assert torch.equal(tokenizer.centroids_VD, expected_VD)
    wave_BT = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    codes = tokenizer.encode(wave_BT, torch.tensor([16_000]))
    assert codes.codes_BQT.shape == (1, 1, 49)
    code, _, said = call(capsys, *words)
    assert (code, "units exists; give another OUTPUT" in said) == (2, True)


def test_refusals(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, said = call(capsys, tmp_path, tmp_path / "units")
    assert (code, "embeddings.json: does not say what made the vectors" in said) == (1, True)
    (tmp_path / MAKER).write_bytes((tree / MAKER).read_bytes())
    code, _, said = call(capsys, tmp_path, tmp_path / "units")
    assert (code, "holds no .npy files" in said) == (2, True)
    np.save(tmp_path / "a.npy", np.zeros((3, 8), np.float32))
    code, _, said = call(capsys, tmp_path, tmp_path / "units")
    assert code == 1
    assert "a.npy: has shape (3, 8); vectors of w2v-bert-2.0@layer-2 have 32 channels" in said
    (tmp_path / "b.npy").write_bytes(b"nothing")
    (tmp_path / "a.npy").unlink()
    code, _, said = call(capsys, tmp_path, tmp_path / "units")
    assert (code, "b.npy: cannot be read: " in said) == (1, True)
    assert not (tmp_path / "units").exists()
