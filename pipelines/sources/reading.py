"""The limits within which a process reads sources: which files, and how much of each text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """Permission and limits; one value for a whole process, because Arrow and fsspec keep theirs for one, too."""

    remote: bool = True
    """False: no file of another machine, whatever a manifest names."""
    retry_s: float = 10.0
    """Seconds for which Google's client repeats a request that fails; its own limit is 15 minutes. Others repeat a few
    times."""
    text_bytes: int = 1 << 20
    """Of a transcript; what is longer is no sentence."""
    line_chars: int = 16 << 20
    """Of a line of a manifest or table, of a quoted cell, and of a description in a tar."""


class _Process:
    reading = Reading()


def set_reading(reading: Reading) -> None:
    """Apply to all that this process reads from now on."""
    _Process.reading = reading


def current() -> Reading:
    """The limits of this process."""
    return _Process.reading


def size_text(size: int) -> str:
    """A limit for people: `1 MiB`."""
    return f"{size / 2**20:.4g} MiB" if size >= 1 << 20 else f"{size} bytes"
