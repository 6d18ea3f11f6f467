"""Frames of even codecs and of codecs in overlapping chunks; identities that stay as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.identity import TokenIdentity, aligned_frames, check_frames, source_frame

EVEN = TokenIdentity("units", "1", "", 16_000, 320, 1, 500)
CHUNKED = TokenIdentity(
    "encodec-48khz", "hub", "", 48_000, 320, 17, 1024, chunk_frames=150, chunk_stride=47_520
)


@given(st.integers(1, 10**7))
def test_frames_stand_for_at_least_their_samples(samples: int) -> None:
    for made in (EVEN, CHUNKED):
        frames = made.frames(samples)
        assert samples <= made.samples(frames) < samples + made.hop_length
        assert made.samples(frames - 1) < samples or frames == 1


def test_chunks_have_frames_of_their_own() -> None:
    assert [CHUNKED.frames(samples) for samples in (1, 320, 48_000, 48_001, 95_520)] == [1, 1, 150, 152, 300]
    assert CHUNKED.frame_rate == pytest.approx(150 / 0.99)
    assert CHUNKED.kbit_s() == pytest.approx(17 * 10 * 150 / 990)


@given(st.floats(0.1, 500.0))
def test_frames_of_both_kinds_line_up_in_time(seconds: float) -> None:
    chunked, even = CHUNKED.frames(round(seconds * 48_000)), EVEN.frames(round(seconds * 16_000))
    read = aligned_frames(even, EVEN, chunked, CHUNKED)
    assert read == sorted(read)
    for frame in {0, even // 2, even - 2} & set(range(even)):
        # The middle of the frame lies inside the frame that is read, in seconds.
        start = CHUNKED.samples(read[frame] + 1) / 48_000 - 320 / 48_000
        assert start - 480 / 48_000 <= (frame + 0.5) * 0.02 <= start + 0.02 + 480 / 48_000
    back = aligned_frames(chunked, CHUNKED, even, EVEN)
    assert abs(back[-1] - (even - 1)) <= 1
    assert max(abs(back[read[frame]] - frame) for frame in range(even - 1)) <= 1 if even > 1 else True


def test_without_chunks_the_rule_is_that_of_before() -> None:
    other = TokenIdentity("codec", "1", "", 24_000, 480, 8, 1024)
    for frame in range(400):
        middle = (2 * frame + 1) * EVEN.hop_length * other.sample_rate
        assert source_frame(frame, EVEN, other, 300) == min(
            middle // (2 * other.hop_length * EVEN.sample_rate), 299
        )
    with pytest.raises(ValueError, match="codec has 90 frames beside 100 of units; expected 100, at most 2"):
        check_frames(100, EVEN, 90, other)


def test_samples_are_told_from_many_codes() -> None:
    assert TokenIdentity("pcm-16khz", "1", "", 16_000, 1, 1, 65_536).holds_samples
    assert not TokenIdentity("xcodec2-16khz", "hub", "", 16_000, 320, 1, 65_536).holds_samples
    assert not EVEN.holds_samples


def test_fields_at_their_defaults_are_not_written() -> None:
    assert "chunk_frames" not in EVEN.as_dict()
    assert TokenIdentity.from_json(CHUNKED.to_json()) == CHUNKED
    assert CHUNKED.as_dict()["chunk_stride"] == 47_520


@pytest.mark.parametrize(("frames", "stride"), [(150, 0), (0, 5), (150, 48_001)])
def test_chunks_that_leave_gaps_are_refused(frames: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"chunk_stride is {stride} with chunk_frames {frames}"):
        TokenIdentity("codec", "1", "", 48_000, 320, 1, 2, chunk_frames=frames, chunk_stride=stride)
