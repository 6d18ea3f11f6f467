"""espeak-ng recordings and the classifier that judges spoken digits."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.demo.classifier import SAMPLE_RATE, train_classifier
from pipelines.demo.corpus import DIGITS, Voice, make_digit_corpus, speak, synthesize_espeak

REPOSITORY = Path(__file__).resolve().parents[3]

VOICES = (Voice("en-us"), Voice("en-us+f2"))


def test_a_new_process_makes_the_same_corpus(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from pipelines.demo.corpus import Voice, make_digit_corpus; "
        "make_digit_corpus(Path(sys.argv[1]), (Voice('en-us'), Voice('en-us+f2')), repeats=1, phrases=3, seed=4)"
    )
    for name in ("first", "again"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=REPOSITORY, check=True)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert len(files) == 24
    assert all(
        (tmp_path / "first" / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files
    )


def test_more_text_takes_longer() -> None:
    word, rate = synthesize_espeak("seven", Voice("en-us"))
    phrase, _ = synthesize_espeak("seven three nine", Voice("en-us"))
    assert rate == 22_050
    assert len(phrase) > 2 * len(word)


def test_unknown_voice_and_silent_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no voice 'xx-nowhere'"):
        speak("one", Voice("xx-nowhere"), tmp_path / "a.wav")
    with pytest.raises(ValueError, match="no sound of the text ''"):
        speak("", Voice("en-us"), tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


def test_corpus_lists_every_recording(tmp_path: Path) -> None:
    seconds = make_digit_corpus(tmp_path, VOICES, repeats=1, phrases=5, seed=3)
    with (tmp_path / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows[:10]] == list(DIGITS)
    assert {row["file"] for row in rows} == {path.name for path in tmp_path.glob("*.wav")}
    assert len(rows) == 25
    decoded = sum(decode(tmp_path / row["file"], SAMPLE_RATE).duration_s for row in rows)
    assert decoded == pytest.approx(seconds, rel=0.01)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Samples], list[str]]:
    folder = tmp_path_factory.mktemp("digits")
    make_digit_corpus(folder, VOICES, repeats=6, phrases=0, seed=1)
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [decode(folder / row["file"], SAMPLE_RATE).samples for row in rows], [row["text"] for row in rows]


def test_classifier_knows_digits_it_never_heard_and_not_noise(
    digits: tuple[list[Samples], list[str]],
) -> None:
    waves, words = digits
    held_out = slice(0, 20)
    classifier = train_classifier(waves[20:], words[20:], DIGITS, steps=150)
    assert classifier.correct(waves[held_out], words[held_out]) >= 19
    noise = [np.random.default_rng(row).normal(0, 0.1, 8000).astype(np.float32) for row in range(40)]
    assert classifier.correct(noise, [DIGITS[row % 10] for row in range(40)]) <= 12


def test_classifier_needs_every_digit(digits: tuple[list[Samples], list[str]]) -> None:
    waves, words = digits
    kept = [index for index, word in enumerate(words) if word != "four"]
    with pytest.raises(ValueError, match="hold no four"):
        train_classifier([waves[index] for index in kept], [words[index] for index in kept], DIGITS)


def test_classifier_refuses_a_label_that_is_no_class(digits: tuple[list[Samples], list[str]]) -> None:
    waves, words = digits
    with pytest.raises(ValueError, match="labelled 'ten'; the classes are zero, one"):
        train_classifier(waves, ["ten", *words[1:]], DIGITS)


def test_classifier_is_the_same_whatever_the_global_seed(digits: tuple[list[Samples], list[str]]) -> None:
    waves, words = digits
    scores = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        scores.append(train_classifier(waves, words, DIGITS, steps=3).log_probabilities(waves[:5]))
    assert torch.equal(*scores)
