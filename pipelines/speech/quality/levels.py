"""Noise, clipping, bandwidth and silence of a wave, from its samples alone: mono (T,) float32 in [-1, 1]."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples

Powers = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

SNR_RANGE_DB = (-20.0, 100.0)
"""Upper limit of `snr_db`: beyond 24-bit audio there is no noise to measure."""
_BLOCK_S = 0.01
_QUIETEST = 0.02
# The mean of the lowest 2 % of a normal distribution lies this many standard deviations below its mean.
_QUIETEST_DEVIATIONS = 2.42
_SPECTRUM_S, _MAX_SPECTRA = 0.032, 20_000
_BAND_RANGE_DB = 50.0
_FULL_SCALE, _CLIPPED_RUN = 0.999, 3
_ACTIVE_MARGIN_DB, _ACTIVE_HANGOVER_BLOCKS = 15.9, 20


def _block_powers(samples: Samples, sample_rate: int) -> Powers:
    """Mean power of blocks of 10 ms; a shorter rest at the end is left out, unless it is all there is."""
    size = max(1, round(_BLOCK_S * sample_rate))
    whole = samples[: len(samples) // size * size] if len(samples) >= size else samples
    blocks = whole.reshape(-1, min(size, len(whole)))
    powers: Powers = np.einsum("bt,bt->b", blocks, blocks).astype(np.float64) / blocks.shape[1]
    return powers


def snr_db(samples: Samples, sample_rate: int) -> float | None:
    """Power of speech over power of noise, dB, within `SNR_RANGE_DB`; None where there are not 3 frames of sound.

    The noise is what the quietest 2 % of frames hold (20 ms, 10 ms apart), as in estimators by minimum statistics
    (Martin 2001), with their mean corrected for white Gaussian noise. So it is stationary noise that counts: babble
    passes for speech, and speech without any pause or closure for noise. Digital silence does not count at all.
    """
    blocks = _block_powers(samples - np.float32(samples.mean()), sample_rate) if len(samples) else None
    if blocks is None or len(blocks) < 2:
        return None
    sound = _block_powers(samples, sample_rate) > 0
    # A block next to digital silence may be half of it.
    sound &= np.concatenate([[True], sound[:-1]]) & np.concatenate([sound[1:], [True]])
    frames = ((blocks[1:] + blocks[:-1]) / 2)[sound[1:] & sound[:-1]]
    if len(frames) < 3:
        return None
    quietest = max(3, round(_QUIETEST * len(frames)))
    bias = 1 - _QUIETEST_DEVIATIONS * math.sqrt(2 / (2 * _BLOCK_S * sample_rate))
    noise = float(np.partition(frames, quietest - 1)[:quietest].mean()) / max(bias, 0.5)
    ratio = max(float(frames.mean()) - noise, 1e-30) / max(noise, 1e-30)
    return float(np.clip(10 * math.log10(ratio), *SNR_RANGE_DB))


def bandwidth_hz(samples: Samples, sample_rate: int) -> float | None:
    """Highest frequency, Hz, whose power in its loudest tenth of frames is within 50 dB of the strongest frequency's.

    The loudest frames of each frequency, since fricatives, which alone reach the highest ones, are rare (Hann windows
    of 32 ms; at most 20,000 of them, evenly spread). None for digital silence.
    """
    size = round(_SPECTRUM_S * sample_rate)
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    if len(frames) > _MAX_SPECTRA:
        frames = frames[np.linspace(0, len(frames) - 1, _MAX_SPECTRA).astype(int)]
    frames = frames[(frames != 0).any(1)]
    if not len(frames):
        return None
    spectra = np.fft.rfft(frames * np.hanning(size + 1)[:size].astype(np.float32), axis=1)
    powers_TF = spectra.real**2 + spectra.imag**2
    loud = max(1, len(frames) // 10)
    loudest_F = np.partition(powers_TF, len(frames) - loud, axis=0)[-loud:].mean(0)
    (heard,) = np.nonzero(loudest_F >= loudest_F.max() * 10 ** (-_BAND_RANGE_DB / 10))
    return float(heard[-1]) * sample_rate / size


def clipping(samples: Samples) -> float | None:
    """Share of samples that are clipped, 0 to 1; None without samples.

    A sample is clipped at or above 0.999 of full scale, or in a run of at least 3 within 0.1 % of the utterance's
    highest or lowest value: what was clipped and then attenuated. Flat tops do not survive resampling or lossy coding.
    """
    if not len(samples):
        return None
    clipped = np.abs(samples) >= _FULL_SCALE
    for signed in (samples, -samples):
        peak = float(signed.max())
        if peak > 0:
            clipped |= _in_runs(signed >= _FULL_SCALE * peak)
    return float(clipped.mean())


def _in_runs(flags: Flags) -> Flags:
    """True where `flags` is true for at least `_CLIPPED_RUN` neighbours in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= _CLIPPED_RUN
    steps = np.zeros(len(flags) + 1, np.int8)
    steps[starts[long]] = 1
    steps[ends[long]] = -1
    return np.cumsum(steps[:-1]).astype(bool)


def silence_share(samples: Samples, sample_rate: int) -> float | None:
    """Share of the time, 0 to 1, that is not speech by the active speech level of ITU-T P.56, method B.

    Speech is what lies less than 15.9 dB below the mean level of speech itself, and 200 ms after it (blocks of 10 ms
    smoothed over 30 ms in the place of P.56's continuous envelope). None without samples; 1 for digital silence.
    """
    if not len(samples):
        return None
    powers = _block_powers(samples, sample_rate)
    total = float(powers.sum())
    if total == 0:
        return 1.0
    envelope = np.convolve(powers, np.full(3, 1 / 3))[1:-1]
    padded = np.concatenate([np.zeros(_ACTIVE_HANGOVER_BLOCKS), envelope])
    held = np.lib.stride_tricks.sliding_window_view(padded, _ACTIVE_HANGOVER_BLOCKS + 1).max(1)
    # The lowest threshold that lies at most 15.9 dB below the mean level of what exceeds it.
    thresholds = np.sort(held)
    active = np.arange(len(thresholds), 0, -1)
    close = total / active <= thresholds * 10 ** (_ACTIVE_MARGIN_DB / 10)
    return 1.0 - float(active[int(np.argmax(close))]) / len(held)
