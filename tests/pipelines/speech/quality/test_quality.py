"""Measures of waves: known answers, and DNSMOS against the package that defines it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt

from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode, resample
from pipelines.rows import samples_array
from pipelines.speech.quality import levels
from pipelines.speech.quality.dnsmos import _TO_MOS, WINDOW, Dnsmos, _model_path, repeated, window_starts
from pipelines.speech.quality.onnx_weights import read_weights
from pipelines.stages.quality import MEASURES, QualityStage

RATE = 16_000
LEVELS: tuple[Callable[[Samples, int], float | None], ...] = (
    levels.snr_db,
    levels.bandwidth_hz,
    levels.silence_share,
)


@pytest.fixture(scope="module")
def speech(speech_folder: Path) -> Samples:
    """Four seconds of words with pauses between them."""
    pause = np.zeros(RATE // 5, np.float32)
    words = [decode(path, RATE).samples for path in sorted(speech_folder.glob("*.wav"))]
    return np.concatenate([part for word in words for part in (word, pause)])[: 4 * RATE]


@pytest.fixture(scope="module")
def dnsmos() -> Dnsmos:
    return Dnsmos()


def with_noise(speech: Samples, snr_db: float) -> Samples:
    noise = np.random.default_rng(0).standard_normal(len(speech))
    power = np.mean(np.square(speech, dtype=np.float64)) * 10 ** (-snr_db / 10)
    return (speech + noise * np.sqrt(power)).astype(np.float32)


def tones(seconds: float) -> Samples:
    """A gliding voice of 29 harmonics in bursts, and a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    glide = 5 * np.sin(np.pi * time)
    voice = sum(np.sin(2 * np.pi * k * (120 * time + glide)) / k for k in range(1, 30))
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (0.05 * voice * (np.sin(3 * np.pi * time) > -0.5) + 0.002 * noise).astype(np.float32)


@pytest.mark.parametrize(
    ("seconds", "of_speechmos"),
    [(3.2, 1.7429714891819934), (9.01, 1.6144114468729385), (25.0, 1.8095422826329752)],
)
def test_dnsmos_equals_speechmos(dnsmos: Dnsmos, seconds: float, of_speechmos: float) -> None:
    """Repeated, one window, and 7 of 16; `speechmos.dnsmos.run(tones(seconds), 16000)["ovrl_mos"]` of 0.0.1.1."""
    assert dnsmos(tones(seconds)) == pytest.approx(of_speechmos, abs=1e-3)


def test_dnsmos_equals_the_network_of_speechmos_on_recorded_speech(dnsmos: Dnsmos, shared_data: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    network = onnxruntime.InferenceSession(str(_model_path()), options)
    samples = decode(shared_data / "ljspeech" / "LJ001-0005.flac", RATE).samples
    wave = repeated(samples)
    starts = window_starts(len(wave))
    raw = [network.run(None, {"input_1": wave[None, one : one + WINDOW]})[0][0, 2] for one in starts]
    assert dnsmos(samples) == pytest.approx(np.polyval(_TO_MOS, raw).mean(), abs=1e-4)


def test_dnsmos_without_nnpack_and_far_from_the_first_window(speech: Samples) -> None:
    """speechmos leaves out windows 7 to 23: the next one begins a run of its own."""
    long = with_noise(np.tile(speech, 9), 20)[: 34 * RATE]
    fast, plain = Dnsmos(hop_s=12), Dnsmos(hop_s=12)
    plain._network._nnpack = False
    assert window_starts(len(long), 12) == [0, 24 * RATE]
    ends = [float(one) for one in (plain(long[:WINDOW]), plain(long[24 * RATE : 24 * RATE + WINDOW])) if one]
    assert plain(long) == pytest.approx(np.mean(ends), abs=1e-5)
    assert fast(long) == pytest.approx(plain(long), abs=1e-4)


def test_dnsmos_hears_noise_and_takes_what_speechmos_refuses(dnsmos: Dnsmos, speech: Samples) -> None:
    speech = speech[: 3 * RATE]
    noisy = dnsmos(with_noise(speech, 0))
    clean = dnsmos(speech)
    assert noisy is not None
    assert clean is not None
    assert noisy < clean - 0.5
    assert dnsmos(1.5 * speech / np.abs(speech).max()) is not None
    assert dnsmos(np.zeros(0, np.float32)) is None


def test_window_starts() -> None:
    starts = window_starts(40 * RATE)
    assert starts == [second * RATE for second in (*range(7), *range(24, 31))]
    assert window_starts(WINDOW) == [0]
    assert len(repeated(np.ones(WINDOW - 1, np.float32))) == 2 * (WINDOW - 1)


def test_hop_below_a_second_is_refused() -> None:
    with pytest.raises(ValueError, match="hop_s is 0, must be a whole number of seconds from 1"):
        Dnsmos(hop_s=0)


def test_weights_of_a_cut_file_are_refused(tmp_path: Path) -> None:
    content = _model_path().read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.onnx is not a whole ONNX model"):
        read_weights(tmp_path / "cut.onnx")


@pytest.mark.parametrize("true_db", [0, 5, 10, 15, 20, 25, 30])
def test_snr_of_known_noise(speech: Samples, true_db: float) -> None:
    assert levels.snr_db(with_noise(speech, true_db), RATE) == pytest.approx(true_db, abs=3)


@pytest.mark.parametrize("true_db", [0, 10, 20, 30])
def test_snr_of_recorded_speech_with_known_noise(shared_data: Path, true_db: float) -> None:
    path = sorted((shared_data / "kerstin_de").glob("*.flac"))[0]
    noisy = with_noise(decode(path, RATE).samples, true_db)
    assert levels.snr_db(noisy, RATE) == pytest.approx(true_db, abs=3)


def test_digital_silence_around_speech_is_no_lack_of_noise(speech: Samples) -> None:
    noisy = with_noise(speech, 10)
    padded = np.concatenate([np.zeros(RATE + 77, np.float32), noisy, np.zeros(RATE, np.float32)])
    assert levels.snr_db(padded, RATE) == pytest.approx(levels.snr_db(noisy, RATE), abs=0.5)


def test_clipped_and_attenuated_speech(speech: Samples) -> None:
    speech = resample(speech, RATE, 24_000)
    peak = float(np.abs(speech).max())
    assert (levels.clipping(0.9 * speech / peak) or 0) < 1e-3
    clipped = np.clip(speech, -0.3 * peak, 0.3 * peak)
    truth = float(np.mean(np.abs(speech) >= 0.3 * peak))
    assert truth > 0.01
    assert levels.clipping(0.5 * clipped) == pytest.approx(truth, rel=0.2)
    assert levels.clipping(np.clip(5 * speech / peak, -1, 1)) == pytest.approx(
        np.mean(np.abs(speech) >= 0.2 * peak), rel=0.05
    )


@pytest.mark.parametrize("source_rate", [8_000, 11_025])
def test_bandwidth_of_narrow_band_speech(speech: Samples, source_rate: int) -> None:
    narrow = resample(resample(speech, RATE, source_rate), source_rate, RATE)
    found = levels.bandwidth_hz(narrow, RATE)
    assert found is not None
    assert 0.85 * source_rate / 2 < found < 1.05 * source_rate / 2


def test_bandwidth_of_telephone_and_full_band(speech: Samples) -> None:
    telephone = sosfiltfilt(butter(10, 3_400, fs=RATE, output="sos"), speech).astype(np.float32)
    assert 3_000 < (levels.bandwidth_hz(telephone, RATE) or 0) < 3_900
    assert (levels.bandwidth_hz(speech, RATE) or 0) > 6_500


def test_silence_share(speech: Samples) -> None:
    without = levels.silence_share(speech, RATE)
    assert without is not None
    half = np.concatenate([speech, np.zeros_like(speech)])
    quiet = half + 1e-4 * np.random.default_rng(0).standard_normal(len(half)).astype(np.float32)
    for padded in (half, quiet):
        assert levels.silence_share(padded, RATE) == pytest.approx(0.5 + without / 2, abs=0.05)
    assert levels.silence_share(np.zeros(RATE, np.float32), RATE) == 1.0


@settings(deadline=None)
@given(
    st.lists(st.floats(-1, 1, width=32), max_size=700),
    st.sampled_from([8_000, 16_000, 44_100]),
    st.floats(0.25, 1),
)
def test_measures_keep_their_ranges_and_ignore_level(values: list[float], rate: int, gain: float) -> None:
    wave = np.array(values, np.float32)
    share = levels.clipping(wave)
    assert share is None or 0 <= share <= 1
    bounds = ((-20, 100), (0, rate / 2), (0, 1))
    for measure, (least, most) in zip(LEVELS, bounds, strict=True):
        found = measure(wave, rate)
        assert found is None or least <= found <= most
        exact = np.float32(0.5) * wave  # a power of two: no rounding
        if found is not None and not np.any((wave != 0) & (np.abs(wave) < 1e-14)):
            assert measure(exact, rate) == pytest.approx(found, abs=1e-6)


def test_stage_adds_what_is_asked_and_leaves_rejected_rows_alone(speech: Samples) -> None:
    rows = [speech, None, speech[: RATE // 2]]
    table = pa.table({"id": ["a", "b", "c"], "samples": samples_array(rows)})
    measures = tuple(name for name in MEASURES if name != "dnsmos")
    found = QualityStage(measures, RATE)(table)
    assert found.column_names == ["id", "samples", *measures]
    assert all(found[name].null_count == 1 and found[name][0].as_py() is not None for name in measures)
    alone = QualityStage(measures, RATE)(table.slice(2, 1))
    assert all(alone[name][0] == found[name][2] for name in measures)


def test_stage_resamples_for_dnsmos(speech: Samples, dnsmos: Dnsmos) -> None:
    samples = resample(speech, RATE, 24_000)
    table = pa.table({"samples": samples_array([samples])})
    found = QualityStage(("dnsmos",), 24_000)(table)["dnsmos"][0].as_py()
    assert found == pytest.approx(dnsmos(resample(samples, 24_000, RATE)), abs=1e-5)


def test_unknown_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="no measure 'pesq'; there are dnsmos, snr_db"):
        QualityStage(("pesq",), RATE)
