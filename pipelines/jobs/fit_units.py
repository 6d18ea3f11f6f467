"""Vectors of recordings -> the cells of k-means, whose numbers are semantic tokens (HuBERT units).

Reads a tree that `embed` made, in blocks, on Ray Data: each pass adds up sums of blocks in a fixed order, so the cells
are the same however many workers there are.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from catalog.command import JobError, UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import Settings, load_config, to_yaml
from catalog.files import clear_asides, written_aside
from models.identity import TokenIdentity
from pipelines.execution import cluster
from pipelines.execution.embedding_tree import read_maker

if TYPE_CHECKING:
    from torch import Tensor

    from models.semantic.k_means import Statistics

name = "fit-units"
help = "vectors of embed -> k-means cells, whose numbers are semantic tokens"

R = TypeVar("R")
_ROW = pa.schema([("index", pa.int64()), ("result", pa.large_binary())])


class UnitsSettings(Settings):
    """Settings of the job."""

    cells: int = Field(default=500, ge=1, le=65536, description="clusters, and so codes")
    iterations: int = Field(default=20, ge=1, description="passes of Lloyd's algorithm")
    seed: int = 0
    block_bytes: int = Field(
        default=64 << 20, ge=1, description="of vectors that are read together; sums are of blocks"
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("vectors", metavar="VECTORS", type=Path, help="the --embedding-dir of an embed")
    parser.add_argument(
        "output", metavar="OUTPUT", type=local, help="directory of the cells: semantic.tokenizer of prepare"
    )
    parser.add_argument("--cells", type=int, help="clusters, and so codes")
    parser.add_argument("--iterations", type=int, help="passes of Lloyd's algorithm")
    parser.add_argument("--seed", type=int, help="of the vectors that cells start at")
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Fit; returns the JSON line."""
    given = {key: getattr(arguments, key) for key in ("cells", "iterations", "seed")}
    shortcuts = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = load_config(UnitsSettings, arguments.config, [*arguments.overrides, *shortcuts])
    require_absolute_under_ray_job(vectors=arguments.vectors, output=arguments.output)
    if arguments.dry_run:
        sys.stdout.write(to_yaml(settings))
        return None
    return fit_units(arguments.vectors, arguments.output, settings)


def fit_units(vectors: Path, output: Path, settings: UnitsSettings) -> dict[str, object]:
    """Fit cells and write their directory; returns the JSON line. Raises UsageError and JobError."""
    from models.semantic import k_means
    from models.semantic.hubert import save_cells

    started = time.monotonic()
    if output.exists():
        raise UsageError(f"{output} exists; give another OUTPUT")
    maker = read_maker(vectors.absolute())
    blocks = _blocks(vectors.absolute(), maker, settings.block_bytes)
    found: list[float] = []

    def report(iteration: int, total: Statistics) -> None:
        found.append(total.squares / max(1, int(total.counts_V.sum())))
        sys.stderr.write(
            f"pass {iteration + 1} of {settings.iterations}: mean squared distance {found[-1]:.6g}\n"
        )

    with cluster.session():
        centroids_VD = k_means.fit(_OnRay(blocks), settings.cells, settings.iterations, settings.seed, report)
    clear_asides(output.parent, output.name)
    with written_aside(output) as folder:
        save_cells(centroids_VD, maker, folder)
    return {
        "output": str(output),
        "features": maker.source,
        "vectors": sum(block.frames for block in blocks),
        "cells": settings.cells,
        "mean_squared_distance": round(found[-1], 6),
        "wall_s": round(time.monotonic() - started, 3),
    }


@dataclass(frozen=True)
class _Block:
    """Files that are read together."""

    paths: tuple[str, ...]
    first: int
    """Number of its first vector."""
    frames: int


def _blocks(vectors: Path, maker: TokenIdentity, most_bytes: int) -> list[_Block]:
    """All files of vectors, in the order of their names. JobError for a file that holds others."""
    blocks: list[_Block] = []
    paths: list[str] = []
    first = frames = 0
    for path in sorted(vectors.rglob("*.npy")):
        try:
            shape = np.load(path, mmap_mode="r").shape
        except (ValueError, OSError) as error:
            raise JobError(f"{path}: cannot be read: {error}") from error
        if len(shape) != 2 or shape[1] != maker.channels:
            raise JobError(
                f"{path}: has shape {shape}; vectors of {maker.source} have {maker.channels} channels"
            )
        if paths and (frames + shape[0]) * maker.channels * 4 > most_bytes:
            blocks.append(_Block(tuple(paths), first, frames))
            first, frames, paths = first + frames, 0, []
        paths.append(str(path))
        frames += shape[0]
    if not paths:
        raise UsageError(f"{vectors}: holds no .npy files")
    return [*blocks, _Block(tuple(paths), first, frames)]


class _OnRay:
    """`models.semantic.k_means.Blocks` as tasks of Ray Data."""

    def __init__(self, blocks: Sequence[_Block]) -> None:
        self._blocks = blocks

    def __call__(self, function: Callable[[Tensor, int], R]) -> Iterator[R]:
        """The results in the order of the blocks; those that come early wait."""
        import ray
        from ray.data import DataContext

        context = DataContext.get_current().copy()
        context.enable_progress_bars = context.print_on_execution_start = False
        # Each row is a block and a task of its own.
        context.target_max_block_size = 1
        tables = [pa.table({"index": [index]}) for index in range(len(self._blocks))]
        with DataContext.current(context):
            data = ray.data.from_arrow(tables).map_batches(
                _apply,
                fn_kwargs={"blocks": self._blocks, "function": function},
                batch_size=1,
                batch_format="pyarrow",
            )
            early: dict[int, R] = {}
            due = 0
            for rows in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for row in rows.to_pylist():
                    early[row["index"]] = pickle.loads(row["result"])
                while due in early:
                    yield early.pop(due)
                    due += 1


def _apply(rows: pa.Table, blocks: Sequence[_Block], function: Callable[[Tensor, int], R]) -> pa.Table:
    import torch

    torch.set_num_threads(1)
    found = []
    for index in rows["index"].to_pylist():
        parts = [np.load(path) for path in blocks[index].paths]
        vectors_ND = torch.from_numpy(np.concatenate(parts).astype(np.float32, copy=False))
        found.append({"index": index, "result": pickle.dumps(function(vectors_ND, blocks[index].first))})
    return pa.Table.from_pylist(found, schema=_ROW)
