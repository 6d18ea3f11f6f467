"""The parts of alignment: texts in units, the spoken reference, pauses, engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.command import UsageError
from models.text.normalize import normalize_transcript
from pipelines.audio.decode import resample
from pipelines.demo.corpus import Voice, synthesize_espeak
from pipelines.speech.alignment.ctc import CtcAligner
from pipelines.speech.alignment.espeak_dtw import EspeakDtw
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignedWord, AlignmentError
from pipelines.speech.alignment.pauses import Levels
from pipelines.speech.alignment.reference import Speaker
from pipelines.speech.alignment.text_units import Boundary, Word, boundary, join_words, phrases, split_words
from pipelines.speech.alignment.utterances import Lengths, utterances

RATE = 16_000
TEXT = (
    "The harbour was quiet when the last boat came in. "
    "Nobody on the pier had expected Mr. Brown to return before winter. "
    "He carried two heavy bags, a lantern, and a letter for the keeper."
)


# --- texts


LETTERS = st.text(st.sampled_from("ab Zé.,!?«»()-'\"9 我是。、カ้ก"), max_size=60)


@given(st.one_of(st.text(max_size=60), LETTERS))
def test_words_and_phrases_give_the_text_back(text: str) -> None:
    words = split_words(normalize_transcript(text))
    assert join_words(words) == normalize_transcript(text)
    assert all(word.text for word in words)
    groups = phrases(words, max_characters=20)
    assert [index for group in groups for index in group] == list(range(len(words)))


def test_scripts_without_spaces_give_a_word_a_character() -> None:
    assert [word.text for word in split_words("你好，世界。 OK")] == ["你", "好，", "世", "界。", "OK"]


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("Dr.", Boundary.WORD),
        ("J.", Boundary.WORD),
        ("end.", Boundary.SENTENCE),
        ("end.”", Boundary.SENTENCE),
        ("1984.", Boundary.SENTENCE),
        ("世。", Boundary.SENTENCE),
        ("but,", Boundary.CLAUSE),
        ("word", Boundary.WORD),
    ],
)
def test_what_a_word_ends(word: str, ends: Boundary) -> None:
    assert boundary(Word(word, True)) is ends


def test_long_sentences_are_split_at_clauses() -> None:
    words = split_words("one two three four five six, seven eight nine ten eleven twelve thirteen")
    first = phrases(words, 40)[0]
    assert join_words(words[first.start : first.stop]).endswith("six,")


# --- the reference


def test_a_spoken_phrase_depends_on_nothing_said_before() -> None:
    words = split_words(TEXT)
    with Speaker("en") as first:
        alone = first.say(words)
    with Speaker("de"), Speaker("en") as second:
        other = second.say(words)
    assert np.array_equal(alone.samples, other.samples)
    assert alone.starts_s == sorted(alone.starts_s)
    assert len(alone.starts_s) == len(words)


def test_silence_and_noise_are_no_reading_of_a_text() -> None:
    words = split_words(TEXT)
    noise = np.random.default_rng(0).normal(scale=0.1, size=10 * RATE).astype(np.float32)
    for wave in (np.zeros(10 * RATE, np.float32), noise):
        aligned = EspeakDtw().align(wave, words, "en")
        assert np.mean([word.score for word in aligned]) < EspeakDtw.min_score


def test_chinese_is_aligned_by_characters() -> None:
    text = "今天天气很好，我们去公园散步。孩子们喜欢在湖边看鸭子。"
    pcm, rate = synthesize_espeak(text, Voice("cmn+f2", speed=130))
    wave = resample(np.frombuffer(pcm, np.int16).astype(np.float32) / np.float32(32768), rate, RATE)
    words = split_words(text)
    aligned = EspeakDtw().align(wave, words, "zh")
    starts = [word.start_s for word in aligned]
    assert starts == sorted(starts)
    assert len(set(starts)) > 0.8 * len(words)
    assert np.mean([word.score for word in aligned]) > EspeakDtw.min_score


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(AlignmentError, match="no voice for language 'tlh-x'"):
        EspeakDtw().align(np.zeros(RATE, np.float32), split_words("a b"), "tlh-x")


def test_pauses_are_found_in_noise() -> None:
    draw = np.random.default_rng(0)
    wave = draw.normal(scale=0.1, size=4 * RATE).astype(np.float32)
    wave[2 * RATE : 2 * RATE + 8000] *= 0.05
    levels = Levels.of(wave)
    pause = levels.pause(1.8, 1.3, 2.6)
    assert pause.start_s == pytest.approx(2.0, abs=0.03)
    assert pause.end_s == pytest.approx(2.5, abs=0.03)
    assert levels.pause(1.0, 0.8, 1.2).length_s == 0.0
    assert levels.loud_s(1.5, 3.0) == pytest.approx(1.0, abs=0.05)


# --- a CTC model from a directory


def test_a_ctc_model_is_heard_in_segments(tiny_ctc: Path) -> None:
    wave = np.random.default_rng(0).normal(scale=0.1, size=47 * RATE + 123).astype(np.float32)
    words = split_words('Über 1984 café, — it\'s "here" 5% ' + "and so on " * 20)
    aligned = CtcAligner(str(tiny_ctc)).align(wave, words, None)
    assert len(aligned) == len(words)
    starts = [word.start_s for word in aligned]
    assert starts == sorted(starts)
    assert all(0.0 <= word.start_s <= word.end_s <= 47.02 for word in aligned)
    assert all(0.0 < word.score <= 1.0 for word in aligned)


def test_segments_give_what_the_model_gives_alone(tiny_ctc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from pipelines.speech.alignment import ctc

    wave = np.random.default_rng(1).normal(scale=0.1, size=3 * RATE).astype(np.float32)
    aligner = CtcAligner(str(tiny_ctc))
    heard = np.concatenate(list(aligner._network._log_probabilities(wave)))
    padded = np.pad(wave, (0, 2 * 320))
    values = Wav2Vec2FeatureExtractor(do_normalize=True)(padded, sampling_rate=RATE, return_tensors="pt")
    model = Wav2Vec2ForCTC.from_pretrained(tiny_ctc).eval()
    with torch.inference_mode():
        expected = torch.log_softmax(model(values.input_values).logits[0], -1).numpy()
    assert heard.shape == (150, 32)
    assert np.allclose(heard, expected[:150], atol=1e-4)
    monkeypatch.setattr(ctc, "_CORE_S", 1.0)
    parts = list(aligner._network._log_probabilities(wave))
    assert [len(part) for part in parts] == [50, 50, 50]


def test_ctc_refuses_what_does_not_fit_and_what_is_no_model(tiny_ctc: Path, tmp_path: Path) -> None:
    aligner = CtcAligner(str(tiny_ctc))
    with pytest.raises(AlignmentError, match="300 letters do not fit into 50 frames of 20 ms"):
        aligner.align(np.zeros(RATE, np.float32), split_words("abc " * 100), None)
    with pytest.raises(AlignmentError, match="no letter"):
        aligner.align(np.zeros(RATE, np.float32), split_words("— …"), None)
    with pytest.raises(UsageError, match="cannot be loaded as a CTC model"):
        CtcAligner(str(tmp_path))
    with pytest.raises(UsageError, match="is not a directory"):
        CtcAligner(str(tmp_path / "absent"))


def test_the_first_and_last_word_are_not_cut_at_the_pauses_beside_them() -> None:
    """Speech from the first sample on; the aligner is late, and each outer word is followed or led by a pause."""
    wave = 0.1 * np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    for start, stop in ((0.62, 0.84), (3.0, 3.3), (3.9, 4.0)):
        wave[round(start * SAMPLE_RATE) : round(stop * SAMPLE_RATE)] = 0.0
    words = split_words("One, two three.")
    aligned = [AlignedWord(0.2, 0.88, 1.0), AlignedWord(0.88, 2.95, 1.0), AlignedWord(2.95, 3.6, 1.0)]
    (found,) = utterances(words, aligned, Levels.of(wave), Lengths(1.0, 30.0, 10.0, 0.15), (0.0, 4.0))
    assert found.start_s == 0.0
    assert found.end_s == pytest.approx(4.0, abs=0.1)
