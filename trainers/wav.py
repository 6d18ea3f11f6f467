"""WAV files in memory."""

from __future__ import annotations

import io
import wave

import torch
from torch import Tensor


def wav_bytes(wave_T: Tensor, sample_rate: int) -> bytes:
    """A 16-bit mono WAV file of samples in [-1, 1]; those outside are clipped."""
    samples = (wave_T.float() * 32768).round().clamp(-32768, 32767).to(torch.int16).cpu().numpy()
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(sample_rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()
