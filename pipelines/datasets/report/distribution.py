"""A histogram of a stream of numbers in fixed memory, with the quantiles that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

_BINS = 20_000


@dataclass(frozen=True)
class Bar:
    """Count of values in [low, high)."""

    low: float
    high: float
    count: int


@dataclass
class Distribution:
    """Counts in bins of (highest - lowest) / 20000; values outside are counted in the first and last bin."""

    lowest: float
    highest: float
    count: int = 0
    missing: int = 0
    """Nulls and NaN."""
    total: float = 0.0
    least: float = float("inf")
    most: float = float("-inf")
    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, column: pa.ChunkedArray | pa.Array) -> None:
        """Count a column of numbers."""
        values = column.drop_null().to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        self.missing += len(column) - len(values)
        if not len(values):
            return
        at = (values - self.lowest) * (_BINS / (self.highest - self.lowest))
        self.bins += np.bincount(np.clip(at, 0, _BINS - 1).astype(np.int64), minlength=_BINS)
        self.count += len(values)
        self.total += float(values.sum())
        self.least = min(self.least, float(values.min()))
        self.most = max(self.most, float(values.max()))

    @property
    def mean(self) -> float:
        """Of all values; NaN where there is none."""
        return self.total / self.count if self.count else float("nan")

    def quantile(self, share: float) -> float:
        """The value below which this share lies, to the width of a bin."""
        at = int(np.searchsorted(np.cumsum(self.bins), share * self.count))
        value = self.lowest + (at + 0.5) * self._width
        return min(max(value, self.least), self.most)

    def bars(self) -> list[Bar]:
        """The histogram between the 0.5 % and 99.5 % quantiles; the outermost bars hold what lies beyond.

        Twice the cube root of the count (the rule of Rice), between 8 and 40 bars.
        """
        number = min(40, max(8, round(2 * self.count ** (1 / 3))))
        cumulated = np.cumsum(self.bins)
        first = int(np.searchsorted(cumulated, 0.005 * self.count, side="right"))
        last = int(np.searchsorted(cumulated, 0.995 * self.count))
        step = max(1, -(-(last - first + 1) // number))
        edges = [first + step * index for index in range(-(-(last - first + 1) // step) + 1)]
        counts = [int(self.bins[low:high].sum()) for low, high in pairwise(edges)]
        counts[0] += int(self.bins[:first].sum())
        counts[-1] += int(self.bins[edges[-1] :].sum())
        values = [self.lowest + edge * self._width for edge in edges]
        return [Bar(low, high, count) for (low, high), count in zip(pairwise(values), counts, strict=True)]

    @property
    def _width(self) -> float:
        return (self.highest - self.lowest) / _BINS
