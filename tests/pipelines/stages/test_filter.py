"""Thresholds: which reason, which detail, and never a pass without a verdict."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest

from catalog.filters import Thresholds
from catalog.reasons import Reason
from pipelines.rows import SCHEMA, samples_array, with_column
from pipelines.stages.filter import EMILIA, PRESETS, FilterStage

GOOD: dict[str, Any] = {
    "id": "a",
    "recording_id": "a",
    "text": "hello there world",
    "text_source": "whisperx:tiny",
    "language": "en",
    "duration_s": 1.5,
    "dnsmos": 3.2,
    "snr_db": 30.0,
    "clipping": 0.0,
    "bandwidth_hz": 7000.0,
    "silence_share": 0.1,
    "speaker_similarity": 0.9,
    "language_probability": 0.9,
    "avg_logprob": -0.3,
    "compression_ratio": 1.2,
}
AUDIO = Thresholds(
    min_duration_s=1.0,
    max_duration_s=2.0,
    min_snr_db=15,
    max_clipping=0.001,
    min_bandwidth_hz=5000,
    max_silence_share=0.5,
    min_dnsmos=3.0,
    min_speaker_similarity=0.7,
)
TEXT = Thresholds(
    languages=("en", "pt-br"),
    min_language_probability=0.8,
    min_chars=3,
    max_chars=40,
    chars_per_s={"en": (5, 25)},
    min_avg_logprob=-1.0,
    max_compression_ratio=2.4,
)


def table(*rows: dict[str, Any]) -> pa.Table:
    """Rows like GOOD with changes, each with a little audio."""
    full = [GOOD | row for row in rows]
    found = pa.Table.from_pylist(
        [{name: row.get(name) for name in SCHEMA.names if name != "samples"} for row in full],
        pa.schema([field for field in SCHEMA if field.name != "samples"]),
    )
    found = found.append_column(SCHEMA.field("samples"), samples_array([np.ones(4, np.float32)] * len(full)))
    for name in GOOD:
        if name not in SCHEMA.names:
            found = with_column(found, name, [row[name] for row in full])
    return found


def verdict(
    thresholds: Thresholds, when: Literal["audio", "text"], **row: Any
) -> tuple[str | None, str | None]:
    found = FilterStage(thresholds, when)(table(row))
    assert found["samples"].null_count == (found["reason"][0].as_py() is not None)
    return found["reason"][0].as_py(), found["detail"][0].as_py()


@pytest.mark.parametrize(
    ("name", "value", "reason", "detail"),
    [
        ("duration_s", 0.5, Reason.TOO_SHORT, "duration_s 0.5, at least 1"),
        ("duration_s", 2.0000001, Reason.TOO_LONG, "duration_s 2.0000001, at most 2"),
        ("snr_db", 12.34, "low_snr", "snr_db 12.34, at least 15"),
        ("clipping", 0.25, "clipped", "clipping 0.25, at most 0.001"),
        ("bandwidth_hz", 3400.0, "narrow_band", "bandwidth_hz 3400, at least 5000"),
        ("silence_share", 0.75, "mostly_silent", "silence_share 0.75, at most 0.5"),
        ("dnsmos", 2.71, "low_dnsmos", "dnsmos 2.71, at least 3"),
        ("speaker_similarity", 0.5, "several_speakers", "speaker_similarity 0.5, at least 0.7"),
    ],
)
def test_audio(name: str, value: float, reason: str, detail: str) -> None:
    assert verdict(AUDIO, "audio", **{name: value}) == (reason, detail)
    assert verdict(AUDIO, "text", **{name: value}) == (None, None)
    for missing in (None, math.nan):
        assert verdict(AUDIO, "audio", **{name: missing})[0] == Reason.NO_VERDICT
        assert verdict(Thresholds(), "audio", **{name: missing}) == (None, None)


@pytest.mark.parametrize(
    ("changes", "reason", "detail"),
    [
        ({"language": "de"}, "wrong_language", "language de, allowed are en, pt-br"),
        ({"language": "pt"}, "wrong_language", "language pt, allowed are en, pt-br"),
        ({"language": None}, Reason.NO_VERDICT, "no language, allowed are en, pt-br"),
        ({"language_probability": 0.5}, "wrong_language", "language_probability 0.5, at least 0.8"),
        ({"language_probability": math.nan}, Reason.NO_VERDICT, "no language_probability, at least 0.8"),
        ({"text": "a b"}, "text_length", "characters 2, at least 3"),
        ({"text": "ab " * 21}, "text_length", "characters 42, at most 40"),
        ({"text": None}, Reason.NO_VERDICT, "no characters, at least 3"),
        ({"duration_s": 15.0}, "text_mismatch", "chars_per_s 1, at least 5"),
        ({"duration_s": 0.5}, "text_mismatch", "chars_per_s 30, at most 25"),
        ({"duration_s": None}, Reason.NO_VERDICT, "no chars_per_s, at least 5"),
        ({"language": "pt-BR"}, Reason.NO_VERDICT, "no bounds of chars_per_s for language pt-BR"),
        ({"avg_logprob": -1.5}, "low_confidence", "avg_logprob -1.5, at least -1"),
        ({"avg_logprob": None}, Reason.NO_VERDICT, "no avg_logprob, at least -1"),
        ({"compression_ratio": 5.0}, "repetitive_text", "compression_ratio 5, at most 2.4"),
        ({"language": "en-US"}, None, None),
    ],
)
def test_text(changes: dict[str, Any], reason: str | None, detail: str | None) -> None:
    assert verdict(TEXT, "text", **changes) == (reason, detail)
    if "duration_s" not in changes:
        assert verdict(TEXT, "audio", **changes) == (None, None)


def test_a_given_text_is_not_asked_for_a_transcribers_confidence() -> None:
    unsure = {"avg_logprob": None, "compression_ratio": 9.0, "language_probability": 0.1}
    assert verdict(TEXT, "text", text_source="sidecar", **unsure) == (None, None)
    assert verdict(TEXT, "text", **unsure)[0] == "wrong_language"
    assert verdict(TEXT, "text", text_source="transformers:x", **unsure)[0] == "wrong_language"


def test_a_given_language_is_not_asked_for_its_probability() -> None:
    only = Thresholds(min_language_probability=0.8)
    assert verdict(only, "text", language_probability=None) == (None, None)
    assert verdict(only, "text", language_probability=None, language=None)[0] == Reason.NO_VERDICT


def test_the_first_check_that_fails_decides() -> None:
    assert verdict(AUDIO, "audio", dnsmos=1.0, snr_db=None)[1] == "no snr_db, at least 15"
    assert verdict(AUDIO, "audio", dnsmos=None, snr_db=1.0)[0] == "low_snr"


def test_a_measure_that_was_never_taken_is_no_pass() -> None:
    bare = table({}).drop_columns(["dnsmos"])
    assert FilterStage(EMILIA, "audio")(bare)["reason"].to_pylist() == [Reason.TOO_SHORT]
    assert FilterStage(Thresholds(min_dnsmos=1), "audio")(bare)["reason"].to_pylist() == [Reason.NO_VERDICT]


def test_rejected_rows_and_neighbours_stay_as_they_are() -> None:
    rows = table({"id": "a"}, {"id": "b", "dnsmos": 1.0}, {"id": "c"}, {"id": "d", "dnsmos": 1.0})
    rows = with_column(rows, "reason", [None, None, None, "silent"])
    rows = with_column(rows, "detail", [None, None, None, "why"])
    found = FilterStage(AUDIO, "audio")(rows)
    assert found["id"].to_pylist() == ["a", "b", "c", "d"]
    assert found["reason"].to_pylist() == [None, "low_dnsmos", None, "silent"]
    assert found["detail"].to_pylist() == [None, "dnsmos 1, at least 3", None, "why"]
    assert found["samples"].to_pylist() == [[1.0] * 4, None, [1.0] * 4, [1.0] * 4]


def test_characters_a_second_are_stored_where_they_are_unknown() -> None:
    rows = table({}, {"text": None}, {"duration_s": None}, {"text": "\u3053 \u3093\u306b"})
    assert FilterStage(Thresholds(), "text")(rows)["chars_per_s"].to_pylist() == [10.0, None, None, 2.0]
    known = with_column(rows, "chars_per_s", [7.0, None, None, None])
    assert FilterStage(Thresholds(), "text")(known)["chars_per_s"].to_pylist() == [7.0, None, None, 2.0]


@pytest.mark.parametrize(
    ("language", "seconds", "reason"),
    [
        ("en", 3.0, None),
        ("zh", 3.0, None),
        ("zh", 20.0, "text_mismatch"),
        (None, 4.0, "text_mismatch"),
    ],
)
def test_emilia_preset(language: str | None, seconds: float, reason: str | None) -> None:
    given = {"text_source": "given", "language": language, "duration_s": seconds}
    assert verdict(PRESETS["emilia"], "audio", **given)[0] is None
    assert verdict(PRESETS["emilia"], "text", **given)[0] == reason


def test_contradictory_thresholds_are_refused() -> None:
    with pytest.raises(ValueError, match="duration_s: at least 5 and at most 3 leaves nothing"):
        Thresholds(min_duration_s=5, max_duration_s=3)
    with pytest.raises(ValueError, match=r"chars_per_s\.en: at least 9 and at most 8 leaves nothing"):
        Thresholds(chars_per_s={"en": (9, 8)})
    with pytest.raises(ValueError, match="languages is empty"):
        Thresholds(languages=())
