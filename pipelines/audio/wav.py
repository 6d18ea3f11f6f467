"""WAV files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from catalog.files import written_aside
from pipelines.audio.containers import Samples


def write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    """Write a mono 16-bit WAV file, which appears in one step; folders above it are made."""
    write_wav_parts(path, [samples], sample_rate)


def write_wav_parts(path: Path, parts: Iterable[Samples], sample_rate: int) -> int:
    """Write a mono 16-bit WAV file part by part; it appears in one step at the end. Returns its samples."""
    import soundfile

    with (
        written_aside(path) as aside,
        soundfile.SoundFile(aside, "w", sample_rate, 1, subtype="PCM_16", format="WAV") as file,
    ):
        for samples in parts:
            file.write(np.clip(samples, -1.0, 1.0))
        return int(file.frames)
