"""WAV files."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from catalog.command import JobError
from catalog.files import written_aside
from pipelines.audio.containers import Samples


def write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    """Write a mono 16-bit WAV file, which appears in one step; folders above it are made. Raises JobError."""
    write_wav_parts(path, [samples], sample_rate)


def write_wav_parts(path: Path, parts: Iterable[Samples], sample_rate: int) -> int:
    """Write a mono 16-bit WAV file part by part; it appears in one step at the end. Returns its samples.

    JobError names a file that cannot be written and why: a place without room says nothing of the recording, so it
    ends a job that rejects what it cannot read.
    """
    count = 0
    try:
        # Not through libsndfile, which says `System error` of a full disk.
        with written_aside(path) as aside, aside.open("wb") as file, wave.open(file, "wb") as written:
            written.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))
            for samples in parts:
                written.writeframes(_pcm16(samples, sample_rate))
                count += len(samples)
    except OSError as error:
        raise JobError(f"{path}: cannot be written: {error.strerror or error}") from error
    return count


def _pcm16(samples: Samples, sample_rate: int) -> bytes:
    """Samples as libsndfile rounds them."""
    import soundfile

    found = io.BytesIO()
    clipped = np.clip(samples, -1.0, 1.0)
    soundfile.write(found, clipped, sample_rate, subtype="PCM_16", endian="LITTLE", format="RAW")
    return found.getvalue()
