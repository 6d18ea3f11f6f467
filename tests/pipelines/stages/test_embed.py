"""Files of vectors without Ray: batches change nothing, bad files are named, a tree knows what is left."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalog.command import JobError, UsageError
from models.identity import TokenIdentity
from models.semantic.source import EmbedderSource
from models.tokenizer_sources import load_embedder
from pipelines.audio.decode import decode
from pipelines.audio.wav import write_wav
from pipelines.execution.embedding_tree import MAKER, SUCCESS, Tree
from pipelines.stages.embed import EmbedStage
from pipelines.stages.vectors import Vectors

MADE = TokenIdentity("encoder", "1", "11ee", 16_000, 320, 0, 0, 8)


@pytest.fixture(scope="module")
def source(semantic_parts: dict[str, Any]) -> EmbedderSource:
    parts = {"statistics": semantic_parts["statistics"], "features": semantic_parts["features"], "layer": 2}
    return EmbedderSource("latents", semantic_parts["tokenizer"], **parts)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """a/1.wav, a/1.flac and b/c/2.wav of different lengths, a broken file, an empty one and a text."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "audio"
    for name, seconds in (("a/1.wav", 1.3), ("a/1.flac", 0.4), ("b/c/2.wav", 2.0)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        wave = np.sin(generator.standard_normal(int(seconds * 22_050)).cumsum() / 2).astype(np.float32) / 2
        write_wav(folder / name, wave, 22_050)
    (folder / "b" / "broken.wav").write_bytes(b"RIFFnothing")
    (folder / "b" / "click.wav").write_bytes(b"")
    (folder / "b" / "2.txt").write_text("words")
    return folder


def read(audio: Path, part: str = "", max_files: int | None = None) -> Tree:
    return Tree.read(audio, audio.parent / "vectors", audio.parent / "json", part, max_files)


def embed(tree: Tree, stage: EmbedStage, batch_size: int = 100) -> None:
    with tree.recording() as record:
        for batch in tree.batches(batch_size, 1 << 24):
            record(stage(batch.rows))


def vectors(audio: Path) -> dict[str, np.ndarray]:
    folder = audio.parent / "vectors"
    return {str(path.relative_to(folder)): np.load(path) for path in sorted(folder.rglob("*.npy"))}


def test_a_tree_is_mirrored(source: EmbedderSource, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = read(audio)
    assert (tree.files, len(tree.todo)) == (5, 5)
    embed(tree, EmbedStage(source, batch_s=100.0))
    found = vectors(audio)
    assert set(found) == {"a/1.npy", "a/1.wav.npy", "b/c/2.npy"}, (
        "of equal names, the later one keeps its ending"
    )
    embedder = load_embedder(source)
    for name, path in (("a/1.npy", "a/1.flac"), ("a/1.wav.npy", "a/1.wav"), ("b/c/2.npy", "b/c/2.wav")):
        import torch

        wave_T = torch.from_numpy(np.array(decode(audio / path, 16_000).samples))
        alone = embedder.embed(wave_T[None], torch.tensor([len(wave_T)])).latents_BTD[0].numpy()
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], alone, atol=2e-5)
        assert np.abs(alone).max() > 0.05
    assert (tree.new, tree.rejected) == (3, 2)
    assert tree.seconds == pytest.approx(3.7, abs=0.01)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert any(line.startswith(f"rejected {audio / 'b' / 'broken.wav'}: unreadable: ") for line in said)
    listed = json.loads((audio.parent / "json" / SUCCESS).read_text())
    assert listed == sorted(str(audio / name) for name in ("a/1.flac", "a/1.wav", "b/c/2.wav"))


def test_a_rerun_does_what_is_left(source: EmbedderSource, audio: Path) -> None:
    stage = EmbedStage(source)
    first = read(audio, max_files=1)
    embed(first, stage)
    assert list(vectors(audio)) == ["a/1.npy"]
    again = read(audio, part="a")
    assert [path.name for path, _ in again.todo] == ["1.wav"]
    embed(again, stage, batch_size=1)
    # Vectors without a record, as a killed job leaves them, and a record without vectors, as whoever moved them does.
    (audio.parent / "json" / SUCCESS).unlink()
    assert [path.name for path, _ in read(audio).todo] == ["broken.wav", "2.wav", "click.wav"]
    read(audio).save()
    (audio.parent / "vectors" / "a" / "1.npy").unlink()
    assert [path.name for path, _ in read(audio, part="a").todo] == []


def test_batches_hold_similar_sizes(audio: Path) -> None:
    tree = read(audio)
    names = [[Path(uri).name for uri in batch.rows["uri"].to_pylist()] for batch in tree.batches(2, 1 << 24)]
    assert names == [["click.wav", "broken.wav"], ["1.flac", "1.wav"], ["2.wav"]]
    assert [len(batch.rows) for batch in tree.batches(100, 1)] == [1] * 5


def test_records_of_jobs_beside_each_other_are_joined(audio: Path) -> None:
    trees = [read(audio, part) for part in ("a", "b")]
    for tree in trees:
        tree.done |= {str(path) for path, _ in tree.todo}
    threads = [threading.Thread(target=tree.save) for tree in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads((audio.parent / "json" / SUCCESS).read_text())) == 5


def test_vectors_of_two_makers_do_not_mix(audio: Path) -> None:
    tree = read(audio)
    tree.claim(MADE)
    tree.claim(MADE)
    other = TokenIdentity("encoder", "2", "11ee", 16_000, 320, 0, 0, 8)
    with pytest.raises(
        JobError, match=r"are made by encoder@1 \(\w+\), not by encoder@2 \(\w+\); give another"
    ):
        tree.claim(other)
    (audio.parent / "vectors" / MAKER).write_text("{}")
    with pytest.raises(JobError, match="does not say what made"):
        tree.claim(MADE)


def test_refusals(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="part_9: is no folder of recordings"):
        read(audio, "part_9")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UsageError, match="holds no recordings"):
        read(tmp_path / "nothing")
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / SUCCESS).write_text("[1]")
    with pytest.raises(JobError, match="must be a list of paths"):
        read(audio)


def test_a_file_that_cannot_be_written_ends_the_job(
    source: EmbedderSource, audio: Path, tmp_path: Path
) -> None:
    (tmp_path / "blocked").write_text("no folder")
    row = {"uri": [(audio / "a" / "1.wav").as_uri()], "target": [(tmp_path / "blocked" / "1.npy").as_uri()]}
    with pytest.raises(JobError, match=r"1\.npy: cannot be written: "):
        EmbedStage(source)(pa.table(row))


@pytest.mark.parametrize("samples", [0, 300, 60 * 16_000 + 1])
def test_what_an_embedder_does_not_take(source: EmbedderSource, samples: int) -> None:
    made = Vectors(source)
    assert made(np.zeros(samples, np.float32), 16_000) == {"latents": None}
    assert (made.refusal(samples) is None) == (samples == 300)
