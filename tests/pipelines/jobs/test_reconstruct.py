"""`reconstruct`: what cannot be read is one rejected line, and no recording is overwritten."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from catalog.files import alone
from models.codec_sources import load_codec
from models.families import codec_examples
from pipelines.__main__ import main
from pipelines.audio.decode import decode
from pipelines.audio.wav import write_wav


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b"):
        write_wav(folder / f"{name}.wav", np.full(8000, 0.1, np.float32), 16000)
    return folder


def reconstruct(*words: str | Path) -> int:
    return main(["reconstruct", *map(str, words), "--codec", "pcm-16khz"])


@pytest.mark.parametrize("name", codec_examples())
def test_every_kind_of_codec(
    name: str,
    folder: Path,
    tmp_path: Path,
    tiny_codec: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = f"{tiny_codec(name)}:1"
    assert main(["reconstruct", str(folder), str(tmp_path / "out"), "--codec", source]) == 0
    assert main(["reconstruct", str(folder / "a.wav"), str(tmp_path / "one.wav"), "--codec", source]) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    identity = load_codec(source).identity
    assert result["kbit_per_s"] == pytest.approx(
        identity.frame_rate * math.log2(identity.codebook_size) / 1000
    )
    for path in (tmp_path / "out" / "a.wav", tmp_path / "out" / "b.wav", tmp_path / "one.wav"):
        wave = decode(path, identity.sample_rate).samples
        # MaskGCT's codec leaves a last part of a frame out.
        assert 0 <= identity.sample_rate // 2 - len(wave) < identity.hop_length


def test_a_missing_file_of_a_table_is_one_rejected_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "metadata.csv").write_text("file,text\na.wav,one\nnowhere.wav,two\nb.wav,three\n")
    (folder / "bad.wav").write_bytes(b"RIFF nothing")
    assert reconstruct(folder, tmp_path / "out") == 0
    said = capsys.readouterr()
    result = json.loads(said.out.strip().splitlines()[-1])
    assert result["files"] == 2
    assert result["rejected"] == said.err.count("rejected ")
    assert "nowhere.wav" in said.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.wav", "b.wav"]


def test_an_output_that_is_its_input_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "a.wav").read_bytes()
    assert reconstruct(folder, folder) == 2
    assert reconstruct(folder / "a.wav", folder / "a.wav") == 2
    assert capsys.readouterr().err.count("would be overwritten") == 2
    assert reconstruct(folder / "a.wav", folder) == 1
    assert "its WAV file would overwrite it" in capsys.readouterr().err
    assert (folder / "a.wav").read_bytes() == before


def test_a_name_that_is_not_utf_8_costs_no_other_recording(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    (folder / "a.wav").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.wav"))
    assert reconstruct(folder, tmp_path / "out") == 0
    assert (tmp_path / "out" / "b.wav").is_file()
    assert os.fsencode(tmp_path / "out") + b"/\xff.wav" in map(os.fsencode, (tmp_path / "out").iterdir())
    assert json.loads(capsys.readouterr().out)["files"] == 2


def test_a_manifest_that_spells_a_name_in_another_unicode_form_finds_the_file(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "a.wav").rename(folder / unicodedata.normalize("NFD", "müller.wav"))
    (folder / "b.wav").unlink()
    line = {"file_name": unicodedata.normalize("NFC", "müller.wav"), "text": "x"}
    (folder / "metadata.jsonl").write_text(json.dumps(line), encoding="utf-8")
    assert reconstruct(folder, tmp_path / "out") == 0
    (made,) = (tmp_path / "out").iterdir()
    assert unicodedata.normalize("NFC", made.name) == "müller.wav"


def test_an_output_that_cannot_take_the_recordings_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for source, output, rule in (
        (folder, tmp_path / "notes", "is no folder, and IN"),
        (folder, tmp_path, "other recordings there would be overwritten"),
        (folder / "a.wav", tmp_path / "a.flac", "must end in .wav, or be a folder that exists"),
        (folder, "s3://bucket/out", "is a URI; it must be a path of this machine"),
    ):
        assert reconstruct(source, output) == 2
        assert rule in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_in_which_another_job_writes_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path / "out"):
        assert reconstruct(folder, tmp_path / "out") == 1
        assert f"{tmp_path / 'out'}: another job writes there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert reconstruct(folder, tmp_path / "out") == 0
