"""WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipelines.audio.containers import Samples


def write_wav(path: Path, samples: Samples, sample_rate: int) -> None:
    """Write mono 16-bit WAV aside and make it visible in one step."""
    import soundfile

    aside = path.with_name(f".{path.name}.part")
    try:
        soundfile.write(aside, np.clip(samples, -1.0, 1.0), sample_rate, subtype="PCM_16", format="WAV")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
