"""Rows of Parquet files as one flat int16 array: in memory when small, otherwise mapped from a file made
once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from catalog.files import write_text, written_aside

MEMORY_LIMIT_BYTES = 4 << 30


@dataclass(frozen=True)
class Store:
    """All rows, sorted by id. `codes(row)` is an int16 view of shape (n_codebooks, frames)."""

    ids: list[str]
    texts: list[str]
    lengths: npt.NDArray[np.int64]
    """Frames of each row."""
    n_codebooks: int
    signed: bool
    """The int16 are signed samples (PCM), not codes."""
    digest: str
    """sha256 of ids, lengths and texts: equal stores are walked in equal order."""
    _flat: npt.NDArray[np.int16]
    _offsets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    def codes(self, row: int) -> npt.NDArray[np.int16]:
        """Codes of one row, (n_codebooks, frames), a view."""
        begin, frames = int(self._offsets[row]), int(self.lengths[row])
        return self._flat[begin : begin + self.n_codebooks * frames].reshape(self.n_codebooks, frames)

    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        used = self._flat[: int(self.lengths.sum()) * self.n_codebooks]
        return (int(used.min()), int(used.max())) if len(used) else (0, 0)

    def frames_per_byte(self) -> float:
        """Frames of all rows over their UTF-8 bytes of text, at least one byte a row."""
        text_bytes = sum(max(len(text.encode()), 1) for text in self.texts)
        return float(self.lengths.sum()) / text_bytes if text_bytes else 0.0

    @staticmethod
    def read(files: Sequence[str | Path], *, signed: bool, cache: Path | None = None) -> Store:
        """Read `text, codes, target_length` (and `id` where there is one) of all files.

        Above 4 GiB of codes the array is written once to `cache` and mapped from there; processes that read
        the same files share it. ValueError names the file for missing columns, ragged codes or differing
        codebook counts.
        """
        paths = [str(file) for file in files]
        if not paths:
            raise ValueError("there are no files to train on")
        size_bytes = sum(_uncompressed_codes(path) for path in paths)
        if size_bytes <= MEMORY_LIMIT_BYTES or cache is None:
            table = _Rows.gather(paths, np.empty(size_bytes // 2 + 1, dtype=np.int16))
        else:
            table = _mapped(paths, cache, size_bytes)
        return table.store(signed)


@dataclass
class _Rows:
    ids: list[str]
    texts: list[str]
    lengths: list[int]
    offsets: list[int]
    n_codebooks: int
    flat: npt.NDArray[np.int16]

    @staticmethod
    def gather(paths: Sequence[str], flat: npt.NDArray[np.int16]) -> _Rows:
        rows = _Rows([], [], [], [], 0, flat)
        at = 0
        for path in paths:
            for batch in _read_batches(path):
                at = rows.add(path, batch, at)
        if not rows.ids:
            raise ValueError(f"the {len(paths)} files to train on hold no row, the first is {paths[0]}")
        return rows

    def add(self, path: str, batch: pa.RecordBatch, at: int) -> int:
        """Append the rows of a batch whose codes go to `flat[at:]`; returns the end."""
        first = len(self.ids)
        names = batch.schema.names
        self.ids += (
            batch["id"].to_pylist()
            if "id" in names
            else [f"{Path(path).name}:{first + i}" for i in range(len(batch))]
        )
        self.texts += [text or "" for text in batch["text"].to_pylist()]
        values, levels, frames = _flatten(path, batch["codes"])
        codebooks = set(np.unique(levels).tolist())
        if codebooks - {self.n_codebooks or next(iter(codebooks), 0)}:
            raise ValueError(
                f"{path}: rows of {sorted(codebooks)} codebooks among rows of {self.n_codebooks}"
            )
        self.n_codebooks = self.n_codebooks or next(iter(codebooks), 0)
        sizes = levels * frames
        self.lengths += frames.tolist()
        self.offsets += (at + np.cumsum(sizes) - sizes).tolist()
        self.flat[at : at + len(values)] = values
        return at + len(values)

    def store(self, signed: bool) -> Store:
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        ids, texts = [self.ids[i] for i in order], [self.texts[i] for i in order]
        lengths = np.asarray(self.lengths, dtype=np.int64)[order]
        described = json.dumps([ids, texts, lengths.tolist()], ensure_ascii=False)
        digest = hashlib.sha256(described.encode()).hexdigest()
        offsets = np.asarray(self.offsets, dtype=np.int64)[order]
        return Store(ids, texts, lengths, self.n_codebooks, signed, digest, self.flat, offsets)


def open_parquet(path: str) -> pq.ParquetFile:
    """A file of training rows, local or by URI. ArrowInvalid (a ValueError) if it is no Parquet file."""
    filesystem, name = pa.fs.FileSystem.from_uri(path) if "://" in path else (pa.fs.LocalFileSystem(), path)
    try:
        file = pq.ParquetFile(filesystem.open_input_file(name))
    except pa.ArrowInvalid as error:
        raise pa.ArrowInvalid(f"{path} is not a readable Parquet file: {error}") from error
    missing = {"text", "codes"} - set(file.schema_arrow.names)
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(sorted(missing))}: a training row needs text and codes"
        )
    return file


def unreadable(path: str) -> str | None:
    """Why a file of training rows cannot be read to its end, or None. ValueError if it is whole, but holds others."""
    try:
        for _ in _read_batches(path):
            pass
    except (OSError, pa.ArrowInvalid) as error:
        return " ".join(str(error).split())
    return None


def _read_batches(path: str) -> Iterator[pa.RecordBatch]:
    with open_parquet(path) as file:
        columns = [name for name in ("id", "text", "codes") if name in file.schema_arrow.names]
        yield from file.iter_batches(batch_size=1024, columns=columns)


def _uncompressed_codes(path: str) -> int:
    """Bytes of all codes as int16 (a Parquet leaf value may be stored in less, so it is counted, not
    measured).
    """
    with open_parquet(path) as file:
        metadata = file.metadata
        leaves = [
            i for i in range(metadata.num_columns) if metadata.schema.column(i).path.startswith("codes.")
        ]
        if len(leaves) != 1:
            raise ValueError(
                f"{path}: codes is {file.schema_arrow.field('codes').type}, not a list of lists of integers"
            )
        return sum(
            2 * metadata.row_group(group).column(leaves[0]).num_values
            for group in range(metadata.num_row_groups)
        )


def _flatten(
    path: str, codes: pa.ListArray
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Flat values, levels of each row, frames of each row."""
    inner = codes.flatten()
    levels = codes.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    per_level = inner.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    starts = np.cumsum(levels) - levels
    frames = np.zeros(len(levels), dtype=np.int64)
    frames[levels > 0] = per_level[starts[levels > 0]]
    if not np.array_equal(np.repeat(frames, levels), per_level) or (levels == 0).any():
        raise ValueError(
            f"{path}: codes of a row must be a rectangle (n_codebooks, frames) of at least one codebook"
        )
    values = inner.flatten().to_numpy(zero_copy_only=False)
    if len(values) and (values.min() < -(2**15) or values.max() >= 2**15):
        raise ValueError(f"{path}: codes range from {values.min()} to {values.max()}, beyond int16")
    return values.astype(np.int16, copy=False), levels, frames


def _mapped(paths: Sequence[str], cache: Path, size_bytes: int) -> _Rows:
    """Rows whose codes lie in a file of `cache`, named after the files read; made aside, then renamed."""
    name = hashlib.sha256(json.dumps(sorted(paths)).encode()).hexdigest()[:32]
    data, index = cache / f"{name}.int16", cache / f"{name}.json"
    if not index.exists():
        with written_aside(data) as aside:
            flat = np.memmap(aside, dtype=np.int16, mode="w+", shape=(size_bytes // 2 + 1,))
            rows = _Rows.gather(paths, flat)
            flat.flush()
        columns = [rows.ids, rows.texts, rows.lengths, rows.offsets, rows.n_codebooks]
        write_text(index, json.dumps(columns))
    ids, texts, lengths, offsets, n_codebooks = json.loads(index.read_text())
    return _Rows(ids, texts, lengths, offsets, n_codebooks, np.memmap(data, dtype=np.int16, mode="r"))
