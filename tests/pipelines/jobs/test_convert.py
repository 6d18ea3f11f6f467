"""`convert`: a tiny system with random weights through the command line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from catalog.files import alone
from pipelines.__main__ import main

RATE = 16_000


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Flow matching over a tiny codec; the weights are random, the parts are real."""
    from models.codecs.mill.codec import save_directory
    from models.codecs.mill.network import MillConfig, MillNetwork
    from models.flow_matching.network import ConditionalFlowMatcher, FlowMatchingConfig
    from models.generators import save_generator
    from models.system_files import save_system

    folder = tmp_path_factory.mktemp("system")
    torch.manual_seed(0)
    sizes = {f"{part}_channels": 16 for part in ("latent", "encoder", "decoder")}
    codec = MillConfig(n_mels=20, n_codebooks=3, codebook_size=16, griffin_lim_iterations=1, **sizes)
    network = MillNetwork(codec)
    latents_ND = network.fit_linear(0.1 * torch.randn(4, 6400))
    codebooks_QVD = network.quantizer.codebooks_QVD
    codebooks_QVD.copy_(torch.randn(codebooks_QVD.shape) * latents_ND.std(dim=0) * 0.5)
    save_directory(network, folder / "codec", "tiny", "1")
    config = FlowMatchingConfig(
        latent_size=16,
        hidden_size=16,
        n_layers=1,
        n_heads=2,
        feed_forward_size=32,
        backbone="transformer",
    )
    save_generator(ConditionalFlowMatcher(config), "flow_matching", folder / "flow")
    save_system(
        folder / "system",
        "flow_matching",
        codec=str(folder / "codec"),
        generators={"flow_matching": folder / "flow"},
        text=None,
        options={"steps": 1, "grid": "uniform"},
    )
    return folder / "system"


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sources of many kinds, and references."""
    folder = tmp_path_factory.mktemp("recordings")
    draws = np.random.default_rng(0)

    def write(name: str, seconds: float, rate: int = RATE, channels: int = 1, loudness: float = 0.1) -> None:
        samples = loudness * draws.standard_normal((round(seconds * rate), channels))
        soundfile.write(folder / name, samples, rate)

    write("source.wav", 0.507)
    write("stereo.flac", 0.5, 44_100, channels=2)
    write("long.wav", 5.3)
    write("voice.wav", 0.6, 8_000)
    write("other.wav", 0.4)
    write("silent.wav", 0.5, loudness=0.0)
    write("short.wav", 0.05)
    write("endless.wav", 31.0, 1000)
    return folder


def convert(system: Path, *words: str | Path) -> int:
    return main(["convert", *map(str, words), "--model", str(system)])


def last_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    return found


def test_a_source_of_any_form_keeps_its_length(
    system: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source, samples in (("source.wav", round(0.507 * RATE)), ("stereo.flac", RATE // 2)):
        output = tmp_path / source / "out.wav"
        assert convert(system, recordings / source, recordings / "voice.wav", output) == 0
        info = soundfile.info(output)
        assert (info.samplerate, info.channels, info.frames) == (RATE, 1, samples)
        result = last_json(capsys)
        assert (result["pairs"], result["new_pairs"], result["rejected"]) == (1, 1, 0)
        assert result["audio_s"] == pytest.approx(samples / RATE, abs=1e-3)


def test_seed_source_and_reference_decide(system: Path, recordings: Path, tmp_path: Path) -> None:
    def made(source: str, reference: str, seed: int) -> bytes:
        output = tmp_path / "out.wav"
        words = (recordings / source, recordings / reference, output, "--set", f"seed={seed}")
        assert convert(system, *words) == 0
        return output.read_bytes()

    plain = made("source.wav", "voice.wav", 0)
    assert made("source.wav", "voice.wav", 0) == plain
    others = (
        made("source.wav", "voice.wav", 1),
        made("source.wav", "other.wav", 0),
        made("other.wav", "voice.wav", 0),
    )
    assert plain not in others


def write_pairs(path: Path, folder: Path, pairs: list[tuple[str | None, str, str]]) -> Path:
    rows = [
        ({"id": name} if name else {}) | {"source": str(folder / source), "reference": str(folder / voice)}
        for name, source, voice in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_pairs_resumes_and_rejects_with_a_reason(
    system: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs: list[tuple[str | None, str, str]] = [
        ("good", "source.wav", "voice.wav"),
        ("silent", "silent.wav", "voice.wav"),
        ("lost", "nobody.wav", "voice.wav"),
        ("brief", "source.wav", "short.wav"),
        ("endless", "source.wav", "endless.wav"),
        (None, "long.wav", "other.wav"),
    ]
    listing = write_pairs(tmp_path / "pairs.jsonl", recordings, pairs)
    folder = tmp_path / "converted"
    assert convert(system, "--input", listing, "--output", folder) == 0
    result = last_json(capsys)
    assert (result["pairs"], result["new_pairs"], result["rejected"]) == (6, 2, 4)
    manifest = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert [row["id"] for row in manifest] == ["good", "silent", "lost", "brief", "endless", "000006"]
    reasons = {row["id"]: row["reason"] for row in manifest}
    assert reasons["good"] is reasons["000006"] is None
    assert f"source {recordings / 'silent.wav'}: silent" in reasons["silent"]
    assert "nobody.wav" in reasons["lost"]
    assert reasons["brief"] == "reference is 0.050 s long; the least is 0.1 s"
    assert f"reference {recordings / 'endless.wav'}: longer than 30 s" in reasons["endless"]
    assert {path.name for path in folder.glob("*.wav")} == {"good.wav", "000006.wav"}

    before = (folder / "good.wav").read_bytes()
    (folder / "000006.wav").unlink()
    assert convert(system, "--input", listing, "--output", folder) == 0
    assert last_json(capsys)["new_pairs"] == 1
    assert (folder / "good.wav").read_bytes() == before


def test_a_changed_pair_is_converted_again_and_no_input_is_overwritten(
    system: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("source.wav", "voice.wav"):
        (folder / name).write_bytes((recordings / name).read_bytes())
    listing = write_pairs(folder / "pairs.jsonl", Path(), [("a", "source.wav", "voice.wav")])
    for made in (1, 0):
        assert convert(system, "--input", listing, "--output", tmp_path / "out") == 0
        assert last_json(capsys)["new_pairs"] == made
    before = (tmp_path / "out" / "a.wav").read_bytes()
    (folder / "voice.wav").write_bytes((recordings / "other.wav").read_bytes())
    assert convert(system, "--input", listing, "--output", tmp_path / "out") == 0
    assert last_json(capsys)["new_pairs"] == 1
    assert (tmp_path / "out" / "a.wav").read_bytes() != before
    source = (folder / "source.wav").read_bytes()
    for target in ("source.wav", "voice.wav"):
        pair = (folder / "source.wav", folder / "voice.wav", folder / target)
        assert convert(system, *pair) == 2
    assert capsys.readouterr().err.count("would be overwritten") == 2
    assert (folder / "source.wav").read_bytes() == source


def test_batch_and_order_change_nothing(system: Path, recordings: Path, tmp_path: Path) -> None:
    pairs: list[tuple[str | None, str, str]] = [
        ("a", "source.wav", "voice.wav"),
        ("b", "stereo.flac", "other.wav"),
        ("c", "long.wav", "voice.wav"),
    ]
    for name, order, size in (("all", pairs, 16), ("single", pairs[::-1], 1)):
        listing = write_pairs(tmp_path / f"{name}.jsonl", recordings, order)
        words = ("--input", listing, "--output", tmp_path / name, "--set", f"batch_size={size}")
        assert convert(system, *words) == 0
    for row, _, _ in pairs:
        together, alone = (soundfile.read(tmp_path / name / f"{row}.wav")[0] for name in ("all", "single"))
        assert together.shape == alone.shape
        assert np.abs(together - alone).max() < 1e-3


def test_a_long_source_is_converted_in_windows(
    system: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from models.cascade import ConvertTask

    seen: list[int] = []
    prepare = ConvertTask.prepare

    def watched(self: Any, request: Any) -> Any:
        seen.append(int(request.source.lengths_B[0]))
        return prepare(self, request)

    monkeypatch.setattr(ConvertTask, "prepare", watched)
    output = tmp_path / "out.wav"
    words = (recordings / "long.wav", recordings / "voice.wav", output)
    assert convert(system, *words, "--set", "sampling.max_source_s=1.5") == 0
    assert soundfile.info(output).frames == round(5.3 * RATE)
    assert last_json(capsys)["audio_s"] == 5.3
    assert len(seen) >= 4
    assert max(seen) <= 1.5 * RATE


def test_a_source_beyond_the_maximum_is_refused(
    system: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (recordings / "long.wav", recordings / "voice.wav", tmp_path / "out.wav")
    assert convert(system, *words, "--set", "max_source_s=5") == 1
    assert "long.wav: longer than 5 s, the most that is allowed" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_system_that_cannot_convert_is_refused_unloaded(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ("codec", "codec_identity", "text", "generators", "options")
    description = {"family": "maskgct", "capabilities": ["speak"]} | {key: {} for key in keys}
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "system.json").write_text(json.dumps(description))
    words = (recordings / "source.wav", recordings / "voice.wav", tmp_path / "out.wav")
    assert convert(tmp_path / "system", *words) == 1
    error = capsys.readouterr().err
    assert "a maskgct system cannot convert; it can speak" in error
    assert error.count("\n") == 1


def test_a_name_that_no_file_can_have_costs_its_own_pair(
    system: Path, recordings: Path, tmp_path: Path
) -> None:
    pairs: list[tuple[str | None, str, str]] = [
        ("a", "x" * 300, "voice.wav"),
        ("b", "source.wav", "voice.wav"),
    ]
    listing = write_pairs(tmp_path / "pairs.jsonl", recordings, pairs)
    assert convert(system, "--input", listing, "--output", tmp_path / "out") == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert [row["reason"] is None for row in rows] == [False, True]
    assert [path.name for path in (tmp_path / "out").glob("*.wav")] == ["b.wav"]


@pytest.mark.parametrize("place", [0, 2])
def test_a_name_that_is_not_utf8_is_refused_by_name(
    system: Path, recordings: Path, tmp_path: Path, place: int, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/a\xff.wav")
    shutil.copy(recordings / "source.wav", odd)
    words = [str(recordings / "source.wav"), str(recordings / "voice.wav"), str(tmp_path / "out.wav")]
    words[place] = odd
    assert convert(system, *map(Path, words)) == 2
    assert "a\\udcff.wav': is not UTF-8" in capsys.readouterr().err


def test_an_empty_list_and_a_taken_folder_are_refused(
    system: Path, recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = tmp_path / "pairs.jsonl"
    listing.write_text("\n")
    assert convert(system, "--input", listing, "--output", tmp_path / "out") == 2
    assert "pairs.jsonl: holds no line" in capsys.readouterr().err
    write_pairs(listing, recordings, [("a", "source.wav", "voice.wav")])
    with alone(tmp_path / "out"):
        assert convert(system, "--input", listing, "--output", tmp_path / "out") == 1
        assert "out: another job writes there" in capsys.readouterr().err


def test_a_full_disk_fails_the_job(
    system: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Also where a long source is written as it is converted."""
    import wave

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    listing = write_pairs(tmp_path / "pairs.jsonl", recordings, [("a", "long.wav", "voice.wav")])
    words = ("--input", listing, "--output", tmp_path / "out", "--set", "sampling.max_source_s=1.5")
    with monkeypatch.context() as patched:
        patched.setattr(wave.Wave_write, "writeframes", full)
        assert convert(system, *words) == 1
    assert "a.wav: cannot be written: No space left on device" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.jsonl"]
    assert convert(system, *words) == 0
    assert soundfile.info(tmp_path / "out" / "a.wav").frames == round(5.3 * RATE)


@pytest.mark.ray
def test_ray_workers_make_the_same(system: Path, recordings: Path, tmp_path: Path, ray_session: None) -> None:
    pairs: list[tuple[str | None, str, str]] = [
        ("a", "source.wav", "voice.wav"),
        ("b", "long.wav", "other.wav"),
    ]
    listing = write_pairs(tmp_path / "pairs.jsonl", recordings, pairs)
    for name, workers in (("here", 0), ("ray", 1)):
        words = ("--input", listing, "--output", tmp_path / name, "--set", f"workers={workers}")
        assert convert(system, *words) == 0
    for row, _, _ in pairs:
        here, there = (soundfile.read(tmp_path / name / f"{row}.wav")[0] for name in ("here", "ray"))
        assert np.abs(here - there).max() < 1e-3


@pytest.mark.parametrize(
    ("words", "message", "code"),
    [
        (["a.wav", "b.wav"], "give SOURCE REFERENCE OUT, or --input PAIRS.jsonl --output FOLDER", 2),
        (["SOURCE", "VOICE", "out.mp3"], "OUT out.mp3: must end in .wav", 2),
        (["missing.wav", "VOICE", "o.wav"], "SOURCE missing.wav: no such file", 2),
        (["SOURCE", "VOICE", "o.wav", "--output", "o"], "give SOURCE REFERENCE OUT, or --input", 2),
        (["--input", "p.jsonl"], "--input takes --output FOLDER", 2),
        (["--input", "p.jsonl", "--output", "o"], "p.jsonl: No such file", 2),
        (["SOURCE", "VOICE", "o.wav", "--set", "batch_sise=2"], "did you mean batch_size?", 2),
        (
            ["SOURCE", "VOICE", "o.wav", "--set", "sampling.stepps=2"],
            "unknown key 'stepps' in the options of flow_matching; did you mean 'steps'",
            1,
        ),
        (["SOURCE", "VOICE", "o.wav", "--set", "sampling.grid=epps"], "grid is 'epps'; it must be one of", 1),
        (["SILENT", "VOICE", "o.wav"], "silent.wav: silent", 1),
        (["SOURCE", "SILENT", "o.wav"], "reference", 1),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    system: Path,
    recordings: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {"SOURCE": "source.wav", "VOICE": "voice.wav", "SILENT": "silent.wav"}
    assert convert(system, *(recordings / names[word] if word in names else word for word in words)) == code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"source": "a.wav"}', "pairs.jsonl:1: must be an object with a source and a reference"),
        ('{"source": "a", "reference": "b", "text": "c"}', "pairs.jsonl:1: unknown key text; known: id, ref"),
        ('{"source": "a", "reference": "b", "id": "../c"}', "id '../c': must be letters, digits"),
        ("{", "pairs.jsonl:1: not JSON"),
    ],
)
def test_wrong_pairs_are_named(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    (tmp_path / "pairs.jsonl").write_text(line)
    assert convert(system, "--input", tmp_path / "pairs.jsonl", "--output", tmp_path / "out") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_starts_nothing(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (recordings / "source.wav", recordings / "voice.wav", tmp_path / "out.wav", "--dry-run")
    assert convert(tmp_path / "no system", *words) == 0
    assert "pairs: 1" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
