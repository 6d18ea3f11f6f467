"""Published lists from a local copy: their rules, and lines that cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from catalog.command import UsageError
from pipelines.evaluation.protocols import librispeech, seed_tts


def test_seed_tts(tmp_path: Path) -> None:
    folder = tmp_path / "en"
    folder.mkdir()
    lines = [
        "x-1|Said before.|prompt-wavs/x.wav|To be said.",
        "x-2|Before|p.wav|Now|wavs/x-2.wav",
        "broken|line",
        "",
    ]
    (folder / "meta.lst").write_text("\n".join(lines), encoding="utf-8")
    rows = seed_tts(folder)
    assert rows == seed_tts(folder / "meta.lst")
    assert rows[0] == {
        "id": "x-1",
        "text": "To be said.",
        "prompt": str(folder / "prompt-wavs/x.wav"),
        "prompt_text": "Said before.",
        "language": "en",
    }
    assert rows[1]["reference"] == str(folder / "wavs/x-2.wav")
    assert "line 3: 'broken|line': must be id|prompt_text" in rows[2]["problem"]


def test_a_list_elsewhere_has_no_language(tmp_path: Path) -> None:
    (tmp_path / "meta.lst").write_text("a|b|c.wav|d", encoding="utf-8")
    assert "language" not in seed_tts(tmp_path)[0]
    with pytest.raises(UsageError, match="No such file"):
        seed_tts(tmp_path / "missing")


def corpus(root: Path, utterances: dict[str, float | None]) -> None:
    """Silent recordings of so many seconds; None is a transcript without a recording."""
    for name, seconds in utterances.items():
        folder = root / Path(*name.split("-")[:2])
        folder.mkdir(parents=True, exist_ok=True)
        if seconds is not None:
            soundfile.write(folder / f"{name}.flac", np.zeros(round(seconds * 16_000), np.int16), 16_000)
        transcript = folder / f"{'-'.join(name.split('-')[:2])}.trans.txt"
        with transcript.open("a", encoding="utf-8") as file:
            file.write(f"{name} THE WORDS OF {name}\n")


def test_librispeech_takes_4_to_10_s_and_the_next_of_the_speaker(tmp_path: Path) -> None:
    seconds = {
        "1-1-0000": 4.0,
        "1-1-0001": 3.9,
        "1-2-0000": 10.0,
        "2-1-0000": 5.0,
        "2-1-0001": 10.1,
        "3-1-0000": None,
    }
    corpus(tmp_path / "test-clean", seconds)
    rows = {row["id"]: row for row in librispeech(tmp_path)}
    assert list(rows) == ["1-1-0000", "1-2-0000", "2-1-0000", "3-1-0000"]
    first, last = rows["1-1-0000"], rows["1-2-0000"]
    assert first["text"] == "the words of 1-1-0000"
    assert first["prompt"] == last["reference"]
    assert first["prompt_text"] == last["text"]
    assert last["prompt"] == first["reference"]
    assert "speaker 2 has no other utterance" in rows["2-1-0000"]["problem"]
    assert "cannot be read" in rows["3-1-0000"]["problem"]
    with pytest.raises(UsageError, match="give LibriSpeech's folder test-clean"):
        librispeech(tmp_path / "test-clean" / "1")
