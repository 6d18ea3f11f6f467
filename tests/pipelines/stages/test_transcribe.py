"""The transcription stage: which rows it fills, with what, and what goes wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from catalog.command import UsageError
from catalog.reasons import Reason
from models.text.normalize import normalize_transcript
from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.rows import SCHEMA, samples_array
from pipelines.speech.transcription import load_transcriber
from pipelines.speech.transcription.interface import (
    Language,
    Transcriber,
    TranscribeSettings,
    Transcript,
    compression_ratio,
)
from pipelines.speech.transcription.windows import windows_of
from pipelines.stages.transcribe import TranscribeStage

RATE = 16_000
COLUMNS = ("text_confidence", "avg_logprob", "compression_ratio", "language_probability", "chars_per_s")


def settings_for(model: Path, **changes: Any) -> TranscribeSettings:
    plain: dict[str, Any] = {"model": str(model), "beam_size": 1, "max_tokens": 40, "batch_size": 4}
    return TranscribeSettings(**(plain | changes))


def table_of(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows in flight from `samples` and whatever else is given."""
    columns = {
        name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type)
        for name in SCHEMA.names
        if name != "samples"
    }
    columns["samples"] = samples_array([row.get("samples") for row in rows])
    return pa.table(columns, schema=SCHEMA)


def utterance(name: str, samples: Samples | None, **more: Any) -> dict[str, Any]:
    return {"id": name, "recording_id": name.split("#")[0], "samples": samples, **more}


@pytest.fixture(scope="module")
def speech(speech_folder: Path) -> list[Samples]:
    return [decode(path, RATE).samples for path in sorted(speech_folder.glob("*.wav"))]


@pytest.fixture(scope="module")
def whisperx(tiny_whisper: Path) -> Transcriber:
    return load_transcriber(settings_for(tiny_whisper))


def test_the_stage_fills_rows_without_text_and_leaves_the_others(
    tiny_whisper: Path, speech: list[Samples]
) -> None:
    rows = [
        utterance("a", speech[0], language="en-GB"),
        utterance("b", speech[1], text="given words", text_source="sidecar", language="de"),
        utterance("c", None, reason="unreadable", detail="not audio"),
        utterance("d", speech[2], text=""),
        utterance("e", None, text="words", reason="silent", detail="silent"),
    ]
    table = table_of(rows)
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table)
    kept = result.select(SCHEMA.names).take([1, 2, 4])
    assert kept.equals(table.take([1, 2, 4]))
    assert result["text_source"].to_pylist() == ["whisperx:ct2", "sidecar", None, "whisperx:ct2", None]
    assert result["language"].to_pylist()[:3] == ["en-GB", "de", None]
    for name in COLUMNS[:3]:
        assert [value is None for value in result[name].to_pylist()] == [False, True, True, False, True]
    chances = result["language_probability"].to_pylist()
    assert [chance is None for chance in chances] == [True, True, True, False, True]
    texts, averages = result["text"].to_pylist(), result["avg_logprob"].to_pylist()
    for row in (0, 3):
        assert result["text_confidence"].to_pylist()[row] == pytest.approx(math.exp(averages[row]), rel=1e-5)
        assert result["compression_ratio"].to_pylist()[row] == pytest.approx(compression_ratio(texts[row]))
    speeds = result["chars_per_s"].to_pylist()
    assert speeds[1] == pytest.approx(len("givenwords") * RATE / len(speech[1]))
    assert speeds[2] is None
    assert speeds[4] is None


def test_given_texts_are_replaced_when_asked(tiny_whisper: Path, speech: list[Samples]) -> None:
    table = table_of([utterance("a", speech[0], text="given", text_source="given", language="en")])
    stage = TranscribeStage(settings_for(tiny_whisper, which="all"), RATE)
    result = stage(table)
    assert result["text_source"].to_pylist() == ["whisperx:ct2"]
    assert result["text"].to_pylist() != ["given"]


def test_rows_do_not_depend_on_the_recordings_beside_them(tiny_whisper: Path, speech: list[Samples]) -> None:
    rows = [utterance(f"{index // 2}#{index}", wave) for index, wave in enumerate(speech)]
    together = TranscribeStage(settings_for(tiny_whisper, batch_size=4), RATE)(table_of(rows))
    single = TranscribeStage(settings_for(tiny_whisper, batch_size=1), RATE)
    apart = pa.concat_tables([single(table_of(rows[at : at + 2])) for at in (0, 2, 4)])
    for name in ("id", "text", "text_source", "language"):
        assert together[name].to_pylist() == apart[name].to_pylist()
    for name in COLUMNS:
        assert together[name].to_pylist() == pytest.approx(apart[name].to_pylist(), rel=1e-4)


def test_a_recording_has_the_language_of_its_opening(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    rows = [utterance("a#0", speech[0]), utterance("a#1", speech[1]), utterance("b", speech[2])]
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table_of(rows))
    (opening,) = whisperx.detect([np.concatenate(speech[:2])])
    (single,) = whisperx.detect([speech[2]])
    assert result["language"].to_pylist() == [opening.code, opening.code, single.code]
    assert result["language_probability"].to_pylist() == pytest.approx(
        [opening.probability, opening.probability, single.probability], rel=1e-4
    )
    (expected,) = whisperx.transcribe([speech[1]], [opening.code])
    assert result["text"].to_pylist()[1] == normalize_transcript(expected.text)


def test_the_language_of_the_settings_is_for_rows_that_say_none(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    rows = [utterance("a", speech[0]), utterance("b", speech[0], language="German")]
    result = TranscribeStage(settings_for(tiny_whisper, language="fr"), RATE)(table_of(rows))
    assert result["language"].to_pylist() == ["fr", "German"]
    assert result["language_probability"].to_pylist() == [None, None]
    expected = whisperx.transcribe([speech[0]] * 2, ["fr", "de"])
    assert result["text"].to_pylist() == [normalize_transcript(one.text) for one in expected]


def test_a_language_that_the_model_lacks_rejects_the_row_only(
    tiny_whisper: Path, speech: list[Samples]
) -> None:
    rows = [utterance("a", speech[0], language="tlh"), utterance("b", speech[1], language="en")]
    result = TranscribeStage(settings_for(tiny_whisper), RATE)(table_of(rows))
    assert result["reason"].to_pylist() == [Reason.MISSING_TEXT, None]
    assert result["detail"].to_pylist()[0].startswith("language 'tlh' is none of the model's: it knows 99")
    assert result["samples"].null_count == 1
    with pytest.raises(UsageError, match=r"transcribe.language: language 'tlh' is none of"):
        TranscribeStage(settings_for(tiny_whisper, language="tlh"), RATE)


def test_a_long_wave_is_the_sum_of_its_pieces_at_any_sample_rate(
    tiny_whisper: Path, whisperx: Transcriber, speech: list[Samples]
) -> None:
    wave = np.tile(np.concatenate(speech), 10)[: 70 * RATE]
    stage = TranscribeStage(settings_for(tiny_whisper), RATE)
    result = stage(table_of([utterance("a", wave, language="en")]))
    windows = windows_of(wave, RATE, 30.0)
    parts = whisperx.transcribe(windows, ["en"] * len(windows))
    assert len(parts) == 3
    assert result["text"].to_pylist() == [normalize_transcript("".join(part.text for part in parts))]
    total = sum(part.logprob or 0 for part in parts) / sum(part.tokens for part in parts)
    assert result["avg_logprob"].to_pylist() == pytest.approx([total], rel=1e-4)
    half = TranscribeStage(settings_for(tiny_whisper), RATE * 2)
    doubled = half(table_of([utterance("a", np.repeat(wave, 2), language="en")]))
    assert doubled["chars_per_s"].to_pylist()[0] > 0
    assert doubled["text"].to_pylist()[0]


class Counting:
    """Says how long a wave is; fails on what the settings of the test call bad."""

    languages = frozenset({"en"})
    detects = False

    def __init__(self, bad_lengths: Sequence[int] = (), empty: Sequence[int] = ()) -> None:
        self.bad_lengths, self.empty = bad_lengths, empty
        self.calls: list[int] = []

    def detect(self, waves: Sequence[Samples]) -> list[Language]:
        raise AssertionError(f"asked for the language of {len(waves)} waves")

    def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
        assert set(languages) <= {"en", None}
        self.calls.append(len(waves))
        for wave in waves:
            if len(wave) in self.bad_lengths:
                raise RuntimeError(f"cannot hear\n{len(wave)} samples")
        return [
            Transcript("" if len(wave) in self.empty else f" {len(wave)}", None, -1.0, 2) for wave in waves
        ]


def counted(engine: Counting, lengths: Sequence[int], **changes: Any) -> pa.Table:
    chosen = settings_for(Path("any"), **changes)
    stage = TranscribeStage(chosen, RATE, load=lambda *_: engine)
    return stage(table_of([utterance(str(length), np.zeros(length, np.float32)) for length in lengths]))


def test_batches_cross_recordings() -> None:
    engine = Counting()
    result = counted(engine, range(1, 11), batch_size=4)
    assert engine.calls == [4, 4, 2]
    assert result["text"].to_pylist() == [str(length) for length in range(1, 11)]
    assert result["language"].to_pylist() == ["en"] * 10
    assert result["text_source"].to_pylist()[0] == "whisperx:any"


def test_a_model_that_is_told_no_language_takes_any(speech: list[Samples]) -> None:
    class OfOneLanguage(Counting):
        languages = frozenset()

        def transcribe(self, waves: Sequence[Samples], languages: Sequence[str | None]) -> list[Transcript]:
            assert languages == ["tlh", None]
            return [Transcript(" word", None, None, 0) for _ in waves]

    rows = [utterance("a", speech[0], language="tlh"), utterance("b", speech[1])]
    stage = TranscribeStage(settings_for(Path("any")), RATE, load=lambda *_: OfOneLanguage())
    result = stage(table_of(rows))
    assert result["text"].to_pylist() == ["word", "word"]
    assert result["language"].to_pylist() == ["tlh", None]
    assert result["avg_logprob"].null_count == result["text_confidence"].null_count == 2


def test_a_row_that_the_engine_fails_on_is_rejected_alone() -> None:
    engine = Counting(bad_lengths=[3])
    result = counted(engine, range(1, 6), batch_size=4)
    assert result["text"].to_pylist() == ["1", "2", None, "4", "5"]
    assert result["reason"].to_pylist() == [None, None, Reason.MISSING_TEXT, None, None]
    detail = "transcription failed: RuntimeError: cannot hear 3 samples"
    assert result["detail"].to_pylist()[2] == detail
    assert engine.calls == [4, 1, 1, 1, 1, 1, 1]


def test_an_empty_transcript_is_an_empty_text() -> None:
    result = counted(Counting(empty=[2]), [1, 2])
    assert result["text"].to_pylist() == ["1", ""]
    assert result["reason"].null_count == 2
    assert result["compression_ratio"].to_pylist()[1] == 0
    assert result["chars_per_s"].to_pylist()[1] is None
