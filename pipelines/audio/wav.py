"""WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from catalog.files import written_aside
from pipelines.audio.containers import Samples


def write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    """Write a mono 16-bit WAV file, which appears in one step; folders above it are made."""
    import soundfile

    with written_aside(path) as aside:
        soundfile.write(aside, np.clip(samples, -1.0, 1.0), sample_rate, subtype="PCM_16", format="WAV")
