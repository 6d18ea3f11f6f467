"""Dynamic time warping within a band, in memory that does not grow with the length times the band.

A row is finished at once, without a loop over its columns: with running sums s of its costs, the least cost of
reaching column j along the row is s_j + min over k <= j of (entry_k - s_k), a running minimum. Rows are grouped in
blocks; the forward pass keeps the totals at the start of each block, and the way back computes one block again at a
time, so that steps are held for one block only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
Totals = npt.NDArray[np.float64]
Steps = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

_DIAGONAL, _DOWN, _ALONG = 0, 1, 2
_STEP_BYTES = 64 << 20
_UNREACHED = 1e30


@dataclass(frozen=True)
class Distances:
    """Euclidean distances between frames `rows` (T, D) and `columns` (S, D), computed on demand.

    `centred` subtracts what a frame's distance usually is (over a sample of the other side), so that a cost below
    zero speaks for a match and one above zero against it, whatever the sound.
    """

    rows: FloatArray
    columns: FloatArray
    column_squares: FloatArray
    row_means: FloatArray
    column_means: FloatArray

    @classmethod
    def plain(cls, rows: FloatArray, columns: FloatArray) -> Distances:
        """Distances as they are."""
        nothing = (np.zeros(len(rows), np.float32), np.zeros(len(columns), np.float32))
        return cls(rows, columns, _squares(columns), *nothing)

    @classmethod
    def centred(cls, rows: FloatArray, columns: FloatArray, sample: int = 500) -> Distances:
        """Distances less the row's and the column's mean, plus the overall mean."""
        to_columns = _means(rows, columns[:: max(1, len(columns) // sample)])
        to_rows = _means(columns, rows[:: max(1, len(rows) // sample)])
        return cls(rows, columns, _squares(columns), to_columns - to_columns.mean(), to_rows)

    def row(self, row: int, low: int, high: int) -> Totals:
        """Costs of one row against columns `low` to `high`."""
        apart = _distances(self.columns[low:high], self.column_squares[low:high], self.rows[row])
        costs: Totals = (apart - self.row_means[row] - self.column_means[low:high]).astype(np.float64)
        return costs


def warp(distances: Distances, lows: Integers, width: int, diagonal_weight: float) -> Integers:
    """The cheapest monotone path: for each row, the first and last column it is matched with (T, 2).

    Row i may use columns `lows[i]` to `lows[i] + width`; lows never decrease, begin at 0 and end with the last
    column inside. A diagonal step costs `diagonal_weight` times the distance, the others once. With weight 2 all
    paths weigh the same, so none is preferred for being short.
    """
    count = len(lows)
    step_rows = max(1, _STEP_BYTES // width)
    starts = list(range(0, count, step_rows))
    totals: list[Totals | None] = [None]
    steps: Steps = np.zeros((0, 0), np.uint8)
    forward = _Forward(distances, lows, width, diagonal_weight)
    for start in starts:
        last, steps = forward(start, min(start + step_rows, count), totals[-1])
        totals.append(last)
    path: Integers = np.full((count, 2), -1, np.int64)
    column = len(distances.columns) - 1
    for index in reversed(range(len(starts))):
        start = starts[index]
        if index < len(starts) - 1:
            _, steps = forward(start, min(start + step_rows, count), totals[index])
        column = _walk_back(path, steps, lows, start, column)
    return path


def band(rows: int, columns: int, width: int) -> Integers:
    """Lows of a band of `width` columns around the straight line from corner to corner."""
    centre = (np.arange(rows) * (columns / rows)).astype(np.int64) - width // 2
    return np.clip(centre, 0, max(0, columns - width))


def band_along(path: Integers, scale: int, rows: int, columns: int, margin: int) -> tuple[Integers, int]:
    """Lows and width of a band around a path found `scale` times coarser, `margin` columns on each side."""
    coarse = np.minimum(np.arange(rows) // scale, len(path) - 1)
    first, last = path[coarse, 0] * scale - margin, (path[coarse, 1] + 1) * scale + margin
    width = min(columns, int((last - first).max()))
    lows = np.clip((first + last - width) // 2, 0, columns - width)
    return np.maximum.accumulate(lows), width


@dataclass(frozen=True)
class _Forward:
    distances: Distances
    lows: Integers
    width: int
    diagonal_weight: float

    def __call__(self, start: int, stop: int, totals: Totals | None) -> tuple[Totals, Steps]:
        """Totals of row `stop - 1` and the steps of rows `start` to `stop`, from the totals of row `start - 1`."""
        steps: Steps = np.empty((stop - start, self.width), np.uint8)
        for row in range(start, stop):
            low = int(self.lows[row])
            cost = self.distances.row(row, low, low + self.width)
            if totals is None:
                totals = np.cumsum(cost)
                steps[0] = _ALONG
                continue
            shift = low - int(self.lows[row - 1])
            totals = self._row(cost, totals, shift, steps[row - start, : len(cost)])
        assert totals is not None
        return totals, steps

    def _row(self, cost: Totals, above: Totals, shift: int, steps: npt.NDArray[np.uint8]) -> Totals:
        count = len(cost)
        down = np.full(count, _UNREACHED)
        diagonal = np.full(count, _UNREACHED)
        kept = above[shift:]
        down[: len(kept)] = kept
        before = above[shift - 1 :] if shift else above[:-1]
        offset = 0 if shift else 1
        size = min(len(before), count - offset)
        diagonal[offset : offset + size] = before[:size]
        down += cost
        diagonal += self.diagonal_weight * cost
        sums = np.cumsum(cost)
        entry = np.minimum(down, diagonal) - sums
        least = np.minimum.accumulate(entry)
        steps[:] = np.where(diagonal <= down, _DIAGONAL, _DOWN)
        steps[least < entry] = _ALONG
        return least + sums


def _walk_back(path: Integers, steps: Steps, lows: Integers, start: int, column: int) -> int:
    """Fill the rows of a block from its last row up; returns the column in which the row above is entered."""
    row = start + len(steps) - 1
    path[row] = column
    while row >= start:
        step = steps[row - start, column - lows[row]]
        if row == 0 and column == 0:
            path[0, 0] = 0
            return 0
        if step == _ALONG:
            column -= 1
            path[row, 0] = column
            continue
        path[row, 0] = column
        column -= int(step == _DIAGONAL)
        row -= 1
        if row >= start:
            path[row] = column
    return column


def _squares(frames: FloatArray) -> FloatArray:
    squares: FloatArray = np.einsum("ij,ij->i", frames, frames)
    return squares


def _distances(frames: FloatArray, squares: FloatArray, frame: FloatArray) -> FloatArray:
    squared = squares + np.float32(frame @ frame) - 2 * (frames @ frame)
    distances: FloatArray = np.sqrt(np.maximum(squared, 0))
    return distances


def _means(frames: FloatArray, others: FloatArray) -> FloatArray:
    squares = _squares(frames)
    sums = np.zeros(len(frames), np.float64)
    for other in others:
        sums += _distances(frames, squares, other)
    return (sums / len(others)).astype(np.float32)
