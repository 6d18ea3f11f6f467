"""Closeness of reconstructed speech to the original: STOI, and PESQ-WB where the `pesq` package is installed.

STOI: Taal et al. 2011, 0 to 1. PESQ-WB: ITU-T P.862.2, about 1 to 4.6; an extra (`bench`), since it needs a compiler.
"""

from __future__ import annotations

import functools
import logging
import math
import statistics
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainers.objectives import Sample

ORIGINAL, RECONSTRUCTED = "original-", "reconstructed-"
"""Beginnings of the names of samples that belong together: `original-3` and `reconstructed-3`."""
_PESQ_RATE = 16_000
_SHORTEST_S = 0.5
_log = logging.getLogger(__name__)
Samples = npt.NDArray[np.float32]
Measure = Callable[[Samples, Samples, int], float]


def pairs(samples: Sequence[Sample]) -> dict[str, tuple[Sample, Sample]]:
    """Original and reconstruction by what their names share, in the order of the originals."""
    named = {sample.name: sample for sample in samples}
    keys = [name.removeprefix(ORIGINAL) for name in named if name.startswith(ORIGINAL)]
    return {
        key: (named[ORIGINAL + key], named[RECONSTRUCTED + key])
        for key in keys
        if RECONSTRUCTED + key in named
    }


def speech_quality(samples: Sequence[Sample]) -> dict[str, float]:
    """Means `stoi` and `pesq_wb` over the pairs among `samples`.

    A pair that cannot be measured (silence, less than half a second, NaN) is left out; a measure without a pair is
    absent, so that nothing reads as a bad score that is none.
    """
    found = {"stoi": [_measured(_stoi, *pair) for pair in pairs(samples).values()]}
    if found["stoi"] and (measure := _pesq()) is not None:
        found["pesq_wb"] = [_measured(measure, *pair) for pair in pairs(samples).values()]
    known = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: statistics.fmean(values) for name, values in known.items() if values}


def _measured(measure: Measure, original: Sample, reconstructed: Sample) -> float | None:
    length = min(len(original.wave_T), len(reconstructed.wave_T))
    waves = [sample.wave_T[:length].detach().float().cpu().numpy() for sample in (original, reconstructed)]
    heard = all(bool(np.isfinite(wave).all()) and bool(wave.any()) for wave in waves)
    if not heard or length < _SHORTEST_S * original.sample_rate:
        return None
    value = measure(waves[0], waves[1], original.sample_rate)
    return value if math.isfinite(value) else None


def _stoi(original: Samples, reconstructed: Samples, sample_rate: int) -> float:
    from pystoi import stoi

    with warnings.catch_warnings():
        # Too few frames that are not silent: pystoi warns, and returns a number that is no score.
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(stoi(original, reconstructed, sample_rate))
        except RuntimeWarning:
            return math.nan


@functools.cache
def _pesq() -> Measure | None:
    """PESQ-WB, or None, said once, where the package is missing."""
    try:
        import pesq
    except ImportError:
        _log.warning("validation_pesq_wb is not measured: the package pesq is missing (extra `bench`)")
        return None
    return functools.partial(_pesq_wb, pesq)


def _pesq_wb(package: Any, original: Samples, reconstructed: Samples, sample_rate: int) -> float:
    import torch
    from torchaudio.functional import resample

    waves = (
        resample(torch.from_numpy(wave), sample_rate, _PESQ_RATE).numpy()
        for wave in (original, reconstructed)
    )
    try:
        return float(package.pesq(_PESQ_RATE, *waves, "wb"))
    except package.PesqError:  # no speech found in one of them
        return math.nan
