"""Recordings mixed, cut and changed for speech tasks: pure functions of samples (T,), float32 within full scale.

Draws come from the generator that is given.
"""

from __future__ import annotations

import numpy as np

from pipelines.audio.containers import Samples

_WINDOW, _HOP = 512, 128
"""Samples of the phase vocoder's analysis."""


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
    """The same words at the same pace with pitch and formants moved by whole semitones, within full scale.

    A phase vocoder makes the wave longer or shorter, and resampling gives it its length back.
    """
    import soxr
    import torch
    from torchaudio.functional import phase_vocoder

    if not len(wave):
        return wave
    ratio, window = 2.0 ** (round(semitones) / 12), torch.hann_window(_WINDOW)
    wave_T = torch.from_numpy(np.array(wave, dtype=np.float32))
    spectrum_FT = torch.stft(wave_T, _WINDOW, _HOP, window=window, pad_mode="constant", return_complex=True)
    advance_F1 = torch.linspace(0, np.pi * _HOP, len(spectrum_FT))[:, None]
    stretched_FT = phase_vocoder(spectrum_FT, 1 / ratio, advance_F1)
    stretched_T = torch.istft(stretched_FT, _WINDOW, _HOP, window=window, length=round(len(wave) * ratio))
    moved: Samples = soxr.resample(stretched_T.numpy(), sample_rate * ratio, sample_rate)
    moved = np.pad(moved[: len(wave)], (0, max(0, len(wave) - len(moved))))
    return np.clip(moved, -1.0, 1.0)


def _rms(wave: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
