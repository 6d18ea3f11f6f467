"""Committed Parquet files -> deterministic, resumable, length-bucketed batches.

Needs only pyarrow, numpy and torch: the caller resolves a dataset version to files. Rows are held as one
flat int16 array (in memory, or mapped from a file when large), so a random row or crop costs one slice.

The order is a function of (rows, seed, epoch). It does not depend on the number of ranks: an update consumes
`group` consecutive batches of one endless stream, and rank r of w takes those at positions r, r + w, ...
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainers.draws import seed_of
from trainers.store import Store

IntArray = npt.NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True)
class BatchConfig:
    """How rows are grouped. The three limits are those of the unofficial MaskGCT's sampler."""

    frames_threshold: int = 16384
    """A batch is closed when its real (unpadded) frames would exceed this."""
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


class Position(NamedTuple):
    """The next batch to be consumed."""

    epoch: int
    batch: int


@dataclass(frozen=True)
class Batch:
    """Rows of one batch. Codes are padded with 0 on the right; only the first `lengths_B` frames count."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    codes_BQT: Tensor
    """int64; of a `pcm-*` dataset the signed samples, int16."""
    lengths_B: Tensor
    """int64, frames."""
    position: Position

    def rows(self, count: int) -> Batch:
        """The first `count` rows."""
        longest = int(self.lengths_B[:count].max())
        return Batch(
            self.ids[:count],
            self.texts[:count],
            self.codes_BQT[:count, :, :longest],
            self.lengths_B[:count],
            self.position,
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch with its tensors on `device`."""
        return replace(
            self,
            codes_BQT=self.codes_BQT.to(device, non_blocking=True),
            lengths_B=self.lengths_B.to(device, non_blocking=True),
        )


class Piece(NamedTuple):
    """A stretch of one row: the whole row, or a crop."""

    row: int
    start: int
    frames: int


def group_by_length(lengths: npt.ArrayLike, config: BatchConfig, rng: np.random.Generator) -> list[IntArray]:
    """Batches of row indices: sorted by length (ties in random order), filled greedily, batches shuffled.

    Rows longer than `max_token_length` or than `frames_threshold` are left out, all others occur exactly
    once.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    limit = min(config.max_token_length, config.frames_threshold)
    order = np.lexsort((rng.permutation(len(sizes)), sizes))
    order = order[(sizes[order] <= limit) & (sizes[order] > 0)]
    batches: list[IntArray] = []
    begin = frames = 0
    for at, row in enumerate(order):
        if at > begin and (at - begin >= config.max_samples or frames + sizes[row] > config.frames_threshold):
            batches.append(order[begin:at])
            begin, frames = at, 0
        frames += int(sizes[row])
    if begin < len(order):
        batches.append(order[begin:])
    return [batches[i] for i in rng.permutation(len(batches))]


class Batches:
    """All epochs of one store. `epoch(e)` is the plan, `stream` walks it."""

    def __init__(self, store: Store, config: BatchConfig, seed: int) -> None:
        self.store, self.config, self.seed = store, config, seed
        self._plans: dict[int, list[list[Piece]]] = {}
        usable = store.lengths > 0
        if config.crop_frames is None:
            usable &= store.lengths <= min(config.max_token_length, config.frames_threshold)
        self.skipped = int((~usable).sum())
        if not usable.any():
            raise ValueError(
                f"no row can be used: of {len(store)} rows, {self.skipped} are empty or longer than "
                f"max_token_length={config.max_token_length} frames"
            )

    def epoch(self, epoch: int) -> list[list[Piece]]:
        """The batches of one epoch, in order."""
        if epoch not in self._plans:
            rng = np.random.default_rng(seed_of(self.store.digest, self.seed, epoch))
            plan = self._whole_rows(rng) if self.config.crop_frames is None else self._crops(rng)
            # An update may reach across the end of an epoch, so two plans are alive at once.
            self._plans = {e: p for e, p in self._plans.items() if abs(e - epoch) == 1} | {epoch: plan}
        return self._plans[epoch]

    def _whole_rows(self, rng: np.random.Generator) -> list[list[Piece]]:
        lengths = self.store.lengths
        return [
            [Piece(int(row), 0, int(lengths[row])) for row in rows]
            for rows in group_by_length(lengths, self.config, rng)
        ]

    def _crops(self, rng: np.random.Generator) -> list[list[Piece]]:
        size = self.config.crop_frames
        assert size is not None
        lengths = self.store.lengths
        total = int(lengths.sum())
        count = self.config.crops_per_epoch or -(-total // size)
        # Every frame is equally likely to begin a crop, so long rows come as often as their length says.
        begins = np.sort(rng.integers(0, total, count))
        rows = np.searchsorted(np.cumsum(lengths), begins, side="right")
        spare = np.maximum(lengths[rows] - size, 0)
        starts = (rng.random(count) * (spare + 1)).astype(np.int64)
        pieces = [
            Piece(int(row), int(start), int(min(size, lengths[row])))
            for row, start in zip(rows, starts, strict=True)
        ]
        order = rng.permutation(count)
        step = self.config.max_samples
        return [[pieces[i] for i in order[at : at + step]] for at in range(0, count, step)]

    def load(self, position: Position) -> Batch:
        """Read one batch."""
        pieces = self.epoch(position.epoch)[position.batch]
        wide = self.config.crop_frames or max(piece.frames for piece in pieces)
        codes = np.zeros((len(pieces), self.store.n_codebooks, wide), dtype=np.int16)
        for at, (row, start, frames) in enumerate(pieces):
            codes[at, :, :frames] = self.store.codes(row)[:, start : start + frames]
        tensor = torch.from_numpy(codes)
        return Batch(
            ids=tuple(self.store.ids[piece.row] for piece in pieces),
            texts=tuple(self.store.texts[piece.row] for piece in pieces),
            codes_BQT=tensor if self.store.signed else tensor.long(),
            lengths_B=torch.tensor([piece.frames for piece in pieces]),
            position=position,
        )

    def once(self, epoch: int = 0) -> Iterator[Batch]:
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
    ) -> Iterator[tuple[list[Batch], Position]]:
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
    *,
    codebook_size: int,
    cache: Path | None = None,
) -> Batches:
    """Batches over Parquet files. Above 32768 codes a codebook the stored int16 are signed samples."""
    return Batches(Store.read(files, signed=codebook_size > 2**15, cache=cache), config, seed)
