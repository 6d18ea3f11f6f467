"""`evaluate`: a tiny system and a tiny Whisper with random weights through the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipelines.__main__ import main

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def listing(speech_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good sentences, and three that cannot be judged."""
    folder = tmp_path_factory.mktemp("sentences")
    for name in ("utterance1.wav", "utterance3.wav", "utterance4.wav"):
        shutil.copy(speech_folder / name, folder / name)
    prompt = {"prompt": "utterance4.wav", "prompt_text": "two two"}
    rows = [
        {"id": "a", "text": "four five", "reference": "utterance1.wav", **prompt},
        {"id": "b", "text": "nine <zero>", "reference": "utterance3.wav", "language": "en"},
        {"id": "silent", "text": "...", "reference": "utterance1.wav"},
        {"id": "lost", "text": "four", "reference": "no.wav"},
        {"id": "mute", "text": "four", "prompt": "no.wav", "prompt_text": "two"},
    ]
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def evaluate(system: Path, tiny_whisper: Path, listing: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Runs the job over `listing`; returns its JSON line."""

    def run(output: Path, *words: str, model: str | None = None) -> dict[str, Any]:
        given = ["--model", model or str(system), "--input", str(listing), "--output", str(output)]
        judges = [
            f"transcribe.model={tiny_whisper}",
            "speaker=null",
            "dnsmos=false",
            "transcribe.max_tokens=8",
        ]
        sets = [word for one in judges for word in ("--set", one)]
        assert main(["evaluate", *given, *sets, *words]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
        return found

    return run


def lines(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the tests here share; the first of them fills it."""
    return tmp_path_factory.mktemp("evaluated") / "out"


def test_from_sentences_to_a_table(evaluate: Evaluate, made: Path) -> None:
    result = evaluate(made)
    assert result["sentences"] == 5
    assert result["seeds"] == 3
    # 2 references, 2 round trips, 2 sentences by 3 seeds.
    assert result["new_judgements"] == 10
    # Two rows of the input, and the missing prompt once a seed.
    assert result["rejected"] == 5
    assert [line.split(":")[0] for line in result["left_out"]] == ["speaker similarity", "DNSMOS"]
    written = json.loads((made / "evaluation.json").read_text(encoding="utf-8"))
    assert list(written["table"]) == ["references", "codec", "system", "seed-0", "seed-1", "seed-2"]
    assert written["table"]["system"]["wer"]["recordings"] == 6
    assert written["table"]["system"]["real_time_factor"]["value"] > 0
    assert "duration_ratio" not in written["table"]["references"]
    assert written["table"]["codec"]["duration_ratio"]["value"] == pytest.approx(1.0, abs=1e-3)
    reasons = {(row["of"], row["id"]): row["reason"] for row in written["rejects"]}
    assert "no words" in reasons["input", "silent"]
    assert "no.wav: no such file" in reasons["input", "lost"]
    assert "no.wav" in reasons["seed-1", "mute"]


def test_figures_are_those_of_the_judgements(made: Path) -> None:
    written = json.loads((made / "evaluation.json").read_text(encoding="utf-8"))
    rows = [row for seed in range(3) for row in lines(made / f"seed-{seed}" / "judged.jsonl").values()]
    errors = [
        sum(row["words"][kind] for kind in ("substitutions", "deletions", "insertions")) for row in rows
    ]
    figure = written["table"]["system"]["wer"]
    assert figure["value"] == pytest.approx(sum(errors) / sum(row["words"]["length"] for row in rows))
    assert figure["low"] <= figure["value"] <= figure["high"]


def test_the_page_plays_and_escapes(made: Path) -> None:
    page = (made / "evaluation.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 4 + 3  # draw, round trip, reference; sentence a has a prompt
    assert "nine &lt;zero&gt;" in page
    assert "<zero>" not in page
    assert "whisperx:ct2" in page
    assert "seed-" in page


def test_a_rerun_makes_and_judges_nothing(evaluate: Evaluate, made: Path) -> None:
    before = {path: path.read_bytes() for path in made.rglob("judged.jsonl")}
    assert len(before) == 5
    assert evaluate(made)["new_judgements"] == 0
    assert {path: path.read_bytes() for path in before} == before


def test_a_changed_wave_is_judged_again(evaluate: Evaluate, made: Path) -> None:
    folder = made / "seed-1"
    before, wave = lines(folder / "judged.jsonl"), folder / "a.wav"
    samples, rate = soundfile.read(wave)
    soundfile.write(wave, np.concatenate([samples, samples]), rate)
    assert evaluate(made)["new_judgements"] == 1
    after = lines(folder / "judged.jsonl")
    assert after["b"] == before["b"]
    assert after["a"]["duration_s"] == pytest.approx(2 * before["a"]["duration_s"])


def test_other_judges_judge_everything_again(evaluate: Evaluate, made: Path) -> None:
    assert evaluate(made, "--set", "transcribe.beam_size=1")["new_judgements"] == 10


def test_workers_of_ray_judge_the_same(ray_session: None, evaluate: Evaluate, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    evaluate(here)
    shutil.copytree(here, there)
    for path in there.rglob("judged.jsonl"):
        path.unlink()
    assert evaluate(there, "--set", "workers=1", "--set", "batch_size=1")["new_judgements"] == 10
    for path in here.rglob("judged.jsonl"):
        assert lines(there / path.relative_to(here)) == lines(path)


def test_a_registered_version_gets_its_figures_as_metrics(
    system: Path, mlflow_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    from catalog.models import register

    register(system, "tiny", tracking_uri=mlflow_uri)
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("one two\n", encoding="utf-8")
    words = ["--model", "models:/tiny", "--input", str(sentences), "--output", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--set", "speaker=null"]) == 0
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [line.split(":")[0] for line in result["left_out"]] == [
        "word and character errors",
        "speaker similarity",
    ]
    metrics = MlflowClient(tracking_uri=mlflow_uri).get_run(result["run"]).data.metrics
    assert set(metrics) == {"evaluation/system/dnsmos", "evaluation/system/real_time_factor"}
    assert metrics["evaluation/system/dnsmos"] == pytest.approx(result["dnsmos"], abs=1e-6)


def test_what_is_wrong_is_said_before_anything_is_spoken(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences, output = tmp_path / "sentences.txt", tmp_path / "out"
    sentences.write_text("one two\n...\n", encoding="utf-8")
    words = ["evaluate", "--model", str(system), "--input", str(sentences), "--output", str(output)]
    refused = {
        "transcribe.model=./none": "transcription model './none' is not a directory",
        "seeds=2": "seeds = 2: input should be greater than or equal to 3",
    }
    for setting, line in refused.items():
        assert main([*words, "--set", setting]) == 2
        assert line in capsys.readouterr().err
    preset = ["evaluate", "--model", str(system), "--preset", "vctk", str(tmp_path), "--output", str(output)]
    assert main(preset) == 2
    assert "--preset vctk: there are seed-tts, librispeech-test-clean" in capsys.readouterr().err
    assert not output.exists()


def test_without_one_sentence_that_can_be_judged_it_fails(
    system: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("...\n", encoding="utf-8")
    words = ["--model", str(system), "--input", str(sentences), "--output", str(tmp_path / "out")]
    assert main(["evaluate", *words, "--set", "speaker=null"]) == 1
    assert "none of 1 sentences could be judged: text is '...': it has no words" in capsys.readouterr().err
