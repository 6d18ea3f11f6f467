"""Seconds, samples and frames: the one place that converts them."""

from __future__ import annotations


def seconds_to_samples(seconds: float, sample_rate: int) -> int:
    """Nearest whole number of samples."""
    return round(seconds * sample_rate)


def samples_to_seconds(samples: int, sample_rate: int) -> float:
    """Length of `samples` at `sample_rate` Hz."""
    return samples / sample_rate


def samples_to_frames(samples: int, hop_length: int) -> int:
    """Frames that hold `samples`; a partial hop counts as a whole frame."""
    return -(-samples // hop_length)


def frames_to_seconds(frames: int, hop_length: int, sample_rate: int) -> float:
    """Length of `frames` frames."""
    return frames * hop_length / sample_rate
