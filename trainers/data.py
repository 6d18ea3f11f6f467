"""Committed Parquet files -> deterministic, resumable, length-bucketed batches.

Needs only pyarrow, numpy and torch: the caller resolves a dataset version to files.

The order is a function of (rows, seed, epoch). It does not depend on the number of ranks: an update consumes
`group` consecutive batches of one endless stream, and rank r of w takes those at positions r, r + w, ...

Shape suffixes: B rows, Q levels, T frames, N rows of the store, K companions.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from models.checkpoints import Record
from trainers.companions import Companions
from trainers.draws import mix, seed_of
from trainers.plan import (
    BatchConfig,
    BoolArray,
    IntArray,
    Item,
    Needs,
    Plan,
    Position,
    crops,
    group_by_length,
)
from trainers.store import Store

SeedArray = npt.NDArray[np.uint64]
T = TypeVar("T")
B = TypeVar("B", bound="Batch")
TOO_LONG, TOO_FEW, OTHER_TASK = "too long or empty", "too few companions", "derived for other tasks"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Batch:
    """Base of all batches: a family's own adds its tensors."""

    position: Position
    ids: tuple[str, ...]
    n_tokens: int
    """Frames times codebooks that count, for the speed that is reported."""

    def to(self, device: torch.device) -> Self:
        """The same batch with its tensors on `device`."""
        tensors: Record = {
            field.name: value.to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        return replace(self, **tensors)


@dataclass(frozen=True)
class CodesBatch(Batch):
    """Codes alone."""

    codes_BQT: Tensor
    """int64, of a `pcm-*` dataset the signed samples, int16; 0 beyond a row's frames."""
    lengths_B: Tensor
    """int64, frames."""


Collator = Callable[[Store, Sequence[Item], Position], B]
"""Reads the items of one batch. Runs in a thread ahead of the training; has no parameters of its own."""


def collate_codes(rows: Store, items: Sequence[Item], position: Position) -> CodesBatch:
    """Codes of the items, padded on the right to the widest window."""
    wide = max(item.frames for item in items)
    codes_BQT = np.zeros((len(items), rows.n_codebooks, wide), dtype=np.int16)
    lengths = [min(item.frames, int(rows.lengths[item.row]) - item.start) for item in items]
    for codes_QT, (row, start, *_), frames in zip(codes_BQT, items, lengths, strict=True):
        codes_QT[:, :frames] = rows.codes(row)[:, start : start + frames]
    tensor = torch.from_numpy(codes_BQT)
    return CodesBatch(
        position=position,
        ids=tuple(rows.id(item.row) for item in items),
        n_tokens=sum(lengths) * rows.n_codebooks,
        codes_BQT=tensor if rows.signed else code_numbers(tensor),
        lengths_B=torch.tensor(lengths),
    )


def code_numbers(stored: Tensor) -> Tensor:
    """Stored codes int16 -> int64; those above 32767 are stored as two's complement."""
    return stored.long() & 0xFFFF


class Batches(Generic[B]):
    """All epochs of one store. `epoch(e)` is the plan, `stream` walks it."""

    def __init__(
        self,
        store: Store,
        config: BatchConfig,
        seed: int,
        collate: Collator[B],
        needs: Needs | None = None,
    ) -> None:
        """ValueError if no row can be used, with the reasons."""
        self.store, self.config, self.seed, self.collate = store, config, seed, collate
        self.needs = needs or Needs()
        self.left_out: dict[str, int] = {}
        """Rows that are never used, by the first reason that holds."""
        self._companions: Companions | None = None
        self._usable_N = self._select()
        self._plans: dict[int, Plan] = {}
        self._planning = threading.Lock()

    @property
    def skipped(self) -> int:
        """Rows that are never used."""
        return sum(self.left_out.values())

    def _select(self) -> BoolArray:
        config, needs, lengths_N = self.config, self.needs, self.store.lengths
        usable_N = lengths_N > 0
        if config.crop_frames is None:
            room = config.frames_threshold - needs.companions * needs.companion_frames
            usable_N &= lengths_N <= config.max_token_length
            usable_N &= self._frames() <= room
        reasons = {TOO_LONG: f"are empty or longer than max_token_length={config.max_token_length} frames"}
        self.left_out[TOO_LONG] = len(usable_N) - int(usable_N.sum())
        if self.store.may_be_derived:
            tasks = self.store.tasks()
            wanted = pc.is_in(tasks, value_set=pa.array([None, *needs.tasks], tasks.type))
            wanted_N = wanted.to_numpy(zero_copy_only=False)
            self.left_out[OTHER_TASK] = int((usable_N & ~wanted_N).sum())
            reasons[OTHER_TASK] = "are derived for other tasks"
            usable_N &= wanted_N
        for column in needs.columns:
            present_N = self.store.present(column)
            self.left_out[f"no {column}"] = int((usable_N & ~present_N).sum())
            reasons[f"no {column}"] = f"have no {column}"
            usable_N &= present_N
        if needs.companions:
            self._companions = Companions(
                self.store.groups(needs.companions_by), usable_N, self.store.origins()
            )
            enough_N = self._companions.enough(needs.others)
            self.left_out[TOO_FEW] = int((usable_N & ~enough_N).sum())
            reasons[TOO_FEW] = f"have fewer than {needs.others} others of the same {needs.companions_by}"
            usable_N &= enough_N
        if not usable_N.any():
            counts = [
                f"{self.left_out[key]} {reason}" for key, reason in reasons.items() if self.left_out[key]
            ]
            told = [remedy for key, remedy in self._remedies() if self.left_out.get(key)]
            raise ValueError(
                f"no row can be used: of {len(self.store)} rows, {'; '.join([', '.join(counts), *told])}"
            )
        return usable_N

    def _remedies(self) -> list[tuple[str, str]]:
        """Changes that let in rows left out for a reason, in words."""
        by = self.needs.companions_by
        return [
            (TOO_LONG, "raise max_token_length, and frames_threshold with it"),
            (
                TOO_FEW,
                f"prompts are other rows of the same {by}: name each row's {by}, or choose other objective.prompts",
            ),
        ]

    def _frames(self) -> IntArray:
        """Frames of each row that are read of it, its own prompt included."""
        if not self.needs.prompts:
            return self.store.lengths
        return self.store.lengths + self.store.widths("prompt_codes")

    def epoch(self, epoch: int) -> Plan:
        """The batches of one epoch, in order."""
        with self._planning:  # called by the thread that reads ahead, too
            if epoch not in self._plans:
                rng = np.random.default_rng(seed_of(self.store.digest, self.seed, epoch))
                plan = self._crops(rng) if self.config.crop_frames is not None else self._whole(epoch, rng)
                # An update may reach across the end of an epoch, so two plans are alive at once.
                self._plans = {e: p for e, p in self._plans.items() if abs(e - epoch) == 1} | {epoch: plan}
            return self._plans[epoch]

    def _crops(self, rng: np.random.Generator) -> Plan:
        return crops(np.where(self._usable_N, self.store.lengths, 0), self.config, rng)

    def _whole(self, epoch: int, rng: np.random.Generator) -> Plan:
        sizes_N = self._frames()
        if self._companions is not None:
            sizes_N = sizes_N.copy()
            rows_N = np.flatnonzero(self._usable_N)
            for rows in np.array_split(rows_N, -(-len(rows_N) // _BLOCK)):
                chosen = self._choose(rows, self._seeds(epoch, rows, np.zeros_like(rows)))
                frames = np.minimum(self.store.lengths[chosen], self.needs.companion_frames)
                sizes_N[rows] += frames.sum(axis=1)
        return group_by_length(sizes_N, self._usable_N, self.config, rng)

    def _seeds(self, epoch: int, rows: IntArray, starts: IntArray) -> SeedArray:
        key = seed_of(self.store.digest, self.seed, epoch, "items")
        return mix(mix(rows, key) + starts.astype(np.uint64), key) >> np.uint64(1)

    def _choose(self, rows: IntArray, seeds: SeedArray) -> IntArray:
        if self._companions is None:
            return np.zeros((len(rows), 0), dtype=np.int64)
        return self._companions.choose(rows, seeds, self.needs.companions)

    def items(self, position: Position) -> list[Item]:
        """The items of one batch, which no other batch and no rank has a say in."""
        rows, starts = self.epoch(position.epoch).batch(position.batch)
        seeds = self._seeds(position.epoch, rows, starts)
        size = self.config.crop_frames
        frames = self.store.lengths[rows] if size is None else np.full_like(rows, size)
        chosen = map(tuple, self._choose(rows, seeds).tolist())
        columns = (array.tolist() for array in (rows, starts, frames, seeds))
        return [Item(*values) for values in zip(*columns, chosen, strict=True)]

    def load(self, position: Position) -> B:
        """Read one batch."""
        return self.collate(self.store, self.items(position), position)

    def once(self, epoch: int = 0) -> Iterator[B]:
        """One epoch, every batch."""
        for batch in range(len(self.epoch(epoch))):
            yield self.load(Position(epoch, batch))

    def advance(self, position: Position, count: int) -> list[Position]:
        """The `count` positions from `position` on, and the one after them as last element."""
        found = []
        epoch, batch = position
        for _ in range(count + 1):
            while batch >= len(self.epoch(epoch)):
                epoch, batch = epoch + 1, 0
            found.append(Position(epoch, batch))
            batch += 1
        return found

    def stream(
        self, position: Position, group: int, rank: int = 0, world: int = 1
    ) -> Iterator[tuple[list[B], Position]]:
        """Endless updates from `position`: this rank's share of `group` batches, the position after them."""
        while True:
            *taken, position = self.advance(position, group)
            yield [self.load(at) for at in taken[rank::world]], position


class Prefetch(Generic[T]):
    """Runs an iterator in a thread, up to `depth` items ahead; `close` ends the thread."""

    def __init__(self, items: Iterator[T], depth: int = 2) -> None:
        self._queue: queue.Queue[T | BaseException] = queue.Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()

    def _fill(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                self._put(item)
                if self._closed.is_set():
                    return
            self._put(StopIteration())
        except Exception as error:  # noqa: BLE001 - raised again in the consumer
            self._put(error)

    def _put(self, item: T | BaseException) -> None:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._queue.get()
        if isinstance(item, BaseException):
            self.close()
            raise item
        return item

    def close(self) -> None:
        """Stop reading ahead and join the thread."""
        self._closed.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def open_batches(
    files: Sequence[str | Path],
    config: BatchConfig,
    seed: int,
    collate: Collator[B],
    needs: Needs | None = None,
    *,
    signed: bool,
    cache: Path | None = None,
) -> Batches[B]:
    """Batches over Parquet files. `signed`: the stored int16 are samples."""
    needs = needs or Needs()
    columns = {"columns": needs.required, "nullable": needs.optional}
    store = Store.read(files, signed=signed, cache=cache, **columns)
    return Batches(store, config, seed, collate, needs)
