"""All training rows, sorted by id: in memory when small, otherwise mapped from files made once.

Needs only pyarrow, numpy and torch. A row costs a few numbers in arrays, never a Python object, so that 100 million
rows fit; a random row or crop costs one slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.codes import flat
from trainers.parquet_rows import column_types, sizes_of
from trainers.store_build import ColumnTypes, Memory, Parts, finish, gather, take
from trainers.store_cache import folder_name, make_folder, open_folder

MEMORY_LIMIT_BYTES = 1 << 30
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Store:
    """Rows by number, in the order of their ids. `codes(row)` is an int16 view of shape (n_codebooks, frames)."""

    parts: Parts
    signed: bool
    """The int16 are signed samples (PCM), not codes."""

    def __len__(self) -> int:
        return len(self.parts.lengths)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Frames of each row."""
        return self.parts.lengths

    @property
    def n_codebooks(self) -> int:
        """The same in all rows."""
        return self.parts.n_codebooks

    @property
    def code_range(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return self.parts.code_range

    @property
    def digest(self) -> str:
        """sha256 of ids, texts and lengths: equal stores are walked in equal order."""
        return self.parts.digest

    def codes(self, row: int) -> npt.NDArray[np.int16]:
        """Codes of one row, (n_codebooks, frames), a view."""
        begin, frames = int(self.parts.offsets[row]), int(self.lengths[row])
        return self.parts.codes[begin : begin + self.n_codebooks * frames].reshape(self.n_codebooks, frames)

    def id(self, row: int) -> str:
        """Utterance id."""
        return str(self._scalar("id", row).as_py())

    def text(self, row: int, column: str = "text") -> str:
        """A column of strings; null is the empty string."""
        return self._scalar(column, row).as_py() or ""

    def strings(self, row: int, column: str) -> list[str]:
        """A column of lists of strings, such as `phonemes`; null is the empty list."""
        return self._scalar(column, row).as_py() or []

    def numbers(self, row: int, column: str) -> npt.NDArray[np.int64]:
        """A column of lists of integers, (T,), or of lists of equally long lists, (Q, T); null is (0,)."""
        return np.asarray(self._scalar(column, row).as_py() or [], dtype=np.int64)

    def data(self, row: int, column: str) -> bytes:
        """A binary column; null is empty."""
        return self._scalar(column, row).as_py() or b""

    def present(self, column: str) -> npt.NDArray[np.bool_]:
        """The rows (N,) whose value is not null."""
        values = self.parts.columns[column]
        if not values.null_count:
            return np.ones(len(self), dtype=np.bool_)
        found = np.concatenate([chunk.is_valid().to_numpy(zero_copy_only=False) for chunk in values.chunks])
        return np.asarray(found[self.parts.places])

    @property
    def may_be_derived(self) -> bool:
        """False where the column `task` was not read: then no row is derived."""
        return "task" in self.parts.columns.column_names

    def tasks(self) -> pa.Array:
        """The task (N,) of derived rows, null for utterances as recorded."""
        return take(self.parts.columns["task"], self.parts.places)

    def widths(self, column: str) -> npt.NDArray[np.int64]:
        """Frames (N,) of a column of lists of equally long lists; 0 for null, and where no file has the column."""
        kept = [np.zeros(0, dtype=np.int64)]
        for chunk in self.parts.columns[column].chunks:
            frames = np.zeros(len(chunk), dtype=np.int64)
            if pa.types.is_list(chunk.type):
                _, levels, per_level = flat(chunk)
                starts = np.cumsum(levels) - levels
                frames[levels > 0] = per_level[starts[levels > 0]]
            kept.append(frames)
        return np.concatenate(kept)[self.parts.places]

    def origins(self) -> IntArray | None:
        """The row (N,) that each row is derived from, by its id `<id>#<name>`; itself, if it is not derived, and -1 if
        its origin is not there. None where no row is derived.
        """
        derived = np.flatnonzero(self.present("task")) if self.may_be_derived else np.zeros(0, np.int64)
        if not len(derived):
            return None
        ids = take(self.parts.columns["id"], self.parts.places)
        names = pc.replace_substring_regex(ids.take(pa.array(derived)), "#[^#]*$", "")
        found = pc.index_in(names, value_set=ids).fill_null(-1).to_numpy(zero_copy_only=False)
        rows = np.arange(len(self))
        rows[derived] = found
        return rows

    def recorded(self) -> IntArray:
        """The rows that are not derived."""
        return np.flatnonzero(~self.present("task")) if self.may_be_derived else np.arange(len(self))

    def groups(self, column: str) -> npt.NDArray[np.int32]:
        """A number for each row (N,), equal where the column's values are; -1 for null."""
        codes = self.parts.columns[column].dictionary_encode().chunks
        found = np.concatenate([chunk.indices.fill_null(-1).to_numpy() for chunk in codes])
        del codes
        pa.default_memory_pool().release_unused()
        return found[self.parts.places].astype(np.int32, copy=False)

    def frames_per_byte(self) -> float:
        """Frames of all rows but derived ones over their UTF-8 bytes of text, at least one byte a row."""
        if not self.may_be_derived:
            return float(self.lengths.sum()) / self.parts.text_bytes
        rows = self.recorded()
        texts = take(self.parts.columns["text"], self.parts.places[rows])
        sizes = pc.binary_length(texts).fill_null(0).to_numpy(zero_copy_only=False)
        return float(self.lengths[rows].sum()) / int(np.maximum(sizes, 1).sum())

    def _scalar(self, column: str, row: int) -> pa.Scalar:
        return self.parts.columns[column][int(self.parts.places[row])]

    @staticmethod
    def read(
        files: Sequence[str | Path],
        *,
        signed: bool,
        columns: Sequence[str] = (),
        nullable: Sequence[str] = (),
        cache: Path | None = None,
    ) -> Store:
        """Read `text`, `codes`, `id` where there is one, `columns`, and `nullable` ones (of strings) where they are.

        Above 1 GiB they are written once into a folder of `cache` and mapped from there; processes that read the same
        files share it. ValueError names the file for missing columns, ragged codes or differing codebook counts.
        """
        paths = [str(file) for file in files]
        if not paths:
            raise ValueError("there are no files to train on")
        folder = cache / folder_name(paths, (*columns, *nullable)) if cache is not None else None
        parts = open_folder(folder) if folder is not None else None
        if parts is None:
            types = column_types(paths, columns, nullable)
            sizes = [sizes_of(path, types) for path in paths]
            size_bytes = sum(2 * size.codes + size.columns_bytes for size in sizes)
            if folder is None or size_bytes <= MEMORY_LIMIT_BYTES:
                parts = _read_into_memory(paths, types, sum(size.codes for size in sizes))
            else:
                parts = make_folder(folder, paths, types)
        return Store(parts, signed)


def _read_into_memory(paths: Sequence[str], columns: ColumnTypes, codes: int) -> Parts:
    memory = Memory(codes)
    found = gather(paths, columns, memory)
    return finish(found, *memory.contents())
