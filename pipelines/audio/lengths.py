"""Seconds and samples: the one place that converts them."""

from __future__ import annotations


def seconds_to_samples(seconds: float, sample_rate: int) -> int:
    """Nearest whole number of samples."""
    return round(seconds * sample_rate)


def samples_to_seconds(samples: int, sample_rate: int) -> float:
    """Length of `samples` at `sample_rate` Hz."""
    return samples / sample_rate
