"""Waves -> measures of their quality, as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.rows import waves, with_column
from pipelines.speech.quality import dnsmos, levels

MeasureName = Literal["dnsmos", "snr_db", "clipping", "bandwidth_hz", "silence_share"]
MEASURES: tuple[str, ...] = get_args(MeasureName)
Measure = Callable[[Samples], float | None]


class QualityStage:
    """Rows in flight -> the same rows with a column for each measure; null for rows without samples.

    Each wave is measured alone, so nothing depends on the batch.
    """

    def __init__(
        self,
        measures: Sequence[str],
        sample_rate: int,
        threads: int = 1,
        dnsmos_hop_s: int = 1,
        device: str = "cpu",
    ) -> None:
        """`measures` out of `MEASURES`; `threads`, `dnsmos_hop_s` (seconds) and `device` concern DNSMOS only."""
        unknown = [name for name in measures if name not in MEASURES]
        if unknown:
            raise ValueError(f"no measure {unknown[0]!r}; there are {', '.join(MEASURES)}")
        self._measures = {
            name: self._measure(name, sample_rate, threads, dnsmos_hop_s, device) for name in measures
        }

    @staticmethod
    def _measure(name: str, sample_rate: int, threads: int, hop_s: int, device: str) -> Measure:
        if name == "dnsmos":
            if device == "cpu":
                import torch

                torch.set_num_threads(threads)
            score = dnsmos.Dnsmos(hop_s, device)
            return lambda wave: score(resample(wave, sample_rate, dnsmos.SAMPLE_RATE))
        if name == "clipping":
            return levels.clipping
        of_rate = {
            "snr_db": levels.snr_db,
            "bandwidth_hz": levels.bandwidth_hz,
            "silence_share": levels.silence_share,
        }[name]
        return lambda wave: of_rate(wave, sample_rate)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Measure every row that has samples."""
        rows = waves(table)
        for name, measure in self._measures.items():
            values = [None if wave is None else _finite(measure(wave)) for wave in rows]
            table = with_column(table, name, values)
        return table


def _finite(value: float | None) -> float | None:
    """A null where the measure came to nothing: a filter then says `no_verdict`."""
    return value if value is not None and np.isfinite(value) else None
