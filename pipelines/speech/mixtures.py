"""Recordings mixed, cut and changed for speech tasks: pure functions of samples (T,), float32 within full scale.

Draws come from the generator that is given.
"""

from __future__ import annotations

import numpy as np

from pipelines.audio.containers import Samples


def segment_of(recording: Samples, length: int, draws: np.random.Generator) -> Samples:
    """`length` samples of a recording from a drawn place on; a shorter recording starts again and again."""
    start = int(draws.integers(len(recording)))
    if start + length <= len(recording):
        return recording[start : start + length]
    return np.resize(np.roll(recording, -start), length)


def mixed(speech: Samples, other: Samples, ratio_db: float) -> tuple[Samples, Samples, Samples]:
    """Speech and another sound of its length, the speech `ratio_db` louder (RMS): (mixture, speech, other).

    All three are scaled alike where the mixture would be beyond full scale. Silence is added as it is.
    """
    loud, loud_other = _rms(speech), _rms(other)
    if loud > 0 and loud_other > 0:
        other = other * np.float32(loud / loud_other * 10 ** (-ratio_db / 20))
    mixture = speech + other
    scale = np.float32(min(1.0, 1.0 / max(float(np.abs(mixture).max(initial=0.0)), 1e-9)))
    return mixture * scale, speech * scale, other * scale


def without_part(wave: Samples, first: int, last: int) -> Samples:
    """The wave with silence from sample `first` up to `last`."""
    left = wave.copy()
    left[first:last] = 0.0
    return left


def other_voice(wave: Samples, sample_rate: int, semitones: float) -> Samples:
    """The same words at the same pace with pitch and formants moved, within full scale (phase vocoder)."""
    import torch
    import torchaudio

    wave_1T = torch.from_numpy(np.array(wave, dtype=np.float32))[None]
    steps = round(semitones)
    moved: Samples = torchaudio.functional.pitch_shift(wave_1T, sample_rate, steps)[0].numpy()
    return np.clip(moved, -1.0, 1.0)


def _rms(wave: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
