"""The order of one epoch: which rows, or crops of them, form its batches.

A plan is a few flat arrays, so that 100 million rows fit. Their numpy calls and their order are part of the format:
an interrupted run continues in the same plan.

Shape suffixes: N rows or items, M batches, K companions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.tasks import SPEAK

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_BLOCK = 1 << 20


@dataclass(frozen=True)
class BatchConfig:
    """Settings of grouping rows. The three limits are those of the unofficial MaskGCT's sampler."""

    frames_threshold: int = 16384
    """A batch is closed when its real (unpadded) frames, companions' included, would exceed this."""
    max_samples: int = 16
    """Rows in a batch at most."""
    max_token_length: int = 1024
    """Rows of more frames are left out (and counted). Not used with crops."""
    crop_frames: int | None = None
    """Train on random crops of this many frames instead of whole rows (codec training: samples of PCM)."""
    crops_per_epoch: int | None = None
    """Default: as many as give every frame one turn on average."""

    def __post_init__(self) -> None:
        for name in ("frames_threshold", "max_samples", "max_token_length", "crop_frames", "crops_per_epoch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: must be at least 1")


@dataclass(frozen=True)
class Needs:
    """The data that an objective's batches are made from, besides ids and codes."""

    columns: tuple[str, ...] = ()
    """Columns that the collator reads. A row that has null in one is left out."""
    companions: int = 0
    """Other rows that each row is read with."""
    companion_frames: int = 0
    """Frames of a companion that are used at most; must be given with companions, since batches are filled by them."""
    companions_by: str = "speaker"
    """The column whose value a row and its companions share."""
    tasks: tuple[str, ...] = (SPEAK,)
    """Derived rows that are read besides utterances, by their task: `tts` are noisy copies."""
    prompts: bool = False
    """Read `prompt_codes`, whose frames fill batches, too."""
    nullable: tuple[str, ...] = ()
    """Columns of strings that it reads, too, where they are; null is no reason to leave a row out."""
    least_companions: int | None = None
    """Rows with fewer others are left out; None: those with fewer than `companions`. A row with fewer than that gets
    some of them more than once."""

    def __post_init__(self) -> None:
        if self.companions < 0:
            raise ValueError(f"companions is {self.companions}: must not be negative")
        if (self.companion_frames > 0) != (self.companions > 0):
            raise ValueError(
                f"companion_frames is {self.companion_frames} with {self.companions} companions: "
                "must be at least 1 with companions, and 0 without"
            )
        if self.least_companions is not None and not 0 < self.least_companions <= self.companions:
            raise ValueError(
                f"least_companions is {self.least_companions}: must be from 1 to companions, {self.companions}"
            )

    @property
    def others(self) -> int:
        """Other rows that a row's group must have."""
        return self.companions if self.least_companions is None else self.least_companions

    @property
    def required(self) -> tuple[str, ...]:
        """The columns that must be there, each once."""
        grouped_by = [self.companions_by] if self.companions else []
        return tuple(dict.fromkeys((*self.columns, *grouped_by)))

    @property
    def optional(self) -> tuple[str, ...]:
        """The columns that are read where they are, each once; `task` only where there are derived rows."""
        return tuple(dict.fromkeys((*self.nullable, *(["prompt_codes"] if self.prompts else []))))


class Position(NamedTuple):
    """The next batch to be consumed."""

    epoch: int
    batch: int


class Item(NamedTuple):
    """A window of one row. A crop's window reaches beyond the end of a row that is shorter."""

    row: int
    start: int
    frames: int
    seed: int
    """For the draws of this item, whatever batch and rank it is in."""
    companions: tuple[int, ...] = ()
    """Other rows that the item is read with, such as prompts of the same speaker."""


@dataclass(frozen=True)
class Plan:
    """The batches of an epoch: batch m holds the items from `bounds_M2[m, 0]` up to `bounds_M2[m, 1]`."""

    rows_N: npt.NDArray[np.uint32]
    bounds_M2: IntArray
    starts_N: IntArray | None = None
    """First frame of each crop; None where items are whole rows."""

    def __len__(self) -> int:
        return len(self.bounds_M2)

    def batch(self, index: int) -> tuple[IntArray, IntArray]:
        """Rows and first frames of one batch."""
        taken = slice(*self.bounds_M2[index].tolist())
        rows = self.rows_N[taken].astype(np.int64)
        return rows, np.zeros_like(rows) if self.starts_N is None else self.starts_N[taken]


def group_by_length(
    sizes_N: IntArray, usable_N: BoolArray, config: BatchConfig, rng: np.random.Generator
) -> Plan:
    """Whole rows, each usable one once: sorted by size (ties in random order), filled greedily, batches shuffled.

    `sizes_N` are the frames that count, at most `frames_threshold` in usable rows.
    """
    # As np.lexsort((draws, sizes)) orders them, at a fifth of its time: rows by draw, then stably by size.
    by_draw_N = np.empty(len(sizes_N), dtype=np.uint32)
    by_draw_N[rng.permutation(len(sizes_N))] = np.arange(len(sizes_N), dtype=np.uint32)
    by_draw_N = by_draw_N[usable_N[by_draw_N]]
    sizes = sizes_N[by_draw_N]
    narrow = (
        sizes.astype(np.uint16) if sizes.max(initial=0) < 1 << 16 else sizes
    )  # which numpy sorts by radix
    by_size = np.argsort(narrow, kind="stable")
    rows_N = by_draw_N[by_size]
    begins = np.fromiter(_begins(np.cumsum(sizes[by_size]), config), dtype=np.int64)
    bounds_M2 = np.stack([begins, np.append(begins, len(rows_N))[1:]], axis=1)
    return Plan(rows_N, bounds_M2[rng.permutation(len(bounds_M2))])


def _begins(ends_N: IntArray, config: BatchConfig) -> Iterator[int]:
    """The first item of each batch; `ends_N` are the running sums of the items' sizes."""
    at = 0
    for first in range(0, len(ends_N), _BLOCK):
        # The batch that begins at each item of the block ends before the item that would be one too many.
        last = min(first + _BLOCK, len(ends_N))
        before = np.append(ends_N[first - 1] if first else 0, ends_N[first : last - 1])
        full = np.searchsorted(ends_N, before + config.frames_threshold, side="right")
        following = np.minimum(full, np.arange(first, last) + config.max_samples)
        while at < last:
            yield at
            at = int(following[at - first])


def crops(lengths_N: IntArray, config: BatchConfig, rng: np.random.Generator) -> Plan:
    """Crops of `crop_frames` frames. Rows of length 0 are never taken.

    Every frame is equally likely to begin a crop, so long rows come as often as their length says.
    """
    size = config.crop_frames
    assert size is not None
    total = int(lengths_N.sum())
    count = config.crops_per_epoch or -(-total // size)
    begins = np.sort(rng.integers(0, total, count))
    rows = np.searchsorted(np.cumsum(lengths_N), begins, side="right")
    spare = np.maximum(lengths_N[rows] - size, 0)
    starts = (rng.random(count) * (spare + 1)).astype(np.int64)
    order = rng.permutation(count)
    first = np.arange(0, count, config.max_samples)
    bounds_M2 = np.stack([first, np.minimum(first + config.max_samples, count)], axis=1)
    return Plan(rows[order].astype(np.uint32), bounds_M2, starts[order])
