"""A store's arrays as files that several processes map: made aside once, flushed, renamed, checked when opened.

A folder is named after the files it was read from (their paths, sizes and times) and never changes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.files import written_aside
from trainers.store_build import ColumnTypes, Parts, finish, gather

_FORMAT = 2
_CODES, _COLUMNS, _RECORD = "codes.int16", "columns.arrow", "store.json"
_ARRAYS = ("lengths", "offsets", "places")
_FIGURES = ("n_codebooks", "code_range", "text_bytes", "digest")


def folder_name(paths: Sequence[str], columns: Sequence[str]) -> str:
    """The name for rows of these files as they are now."""
    described = json.dumps([_FORMAT, [[path, *_state(path)] for path in paths], list(columns)])
    return hashlib.sha256(described.encode()).hexdigest()[:32]


def _state(path: str) -> tuple[int, ...]:
    """Size and time of a local file. Those of an object store are written once, under new names."""
    if "://" in path or not Path(path).exists():
        return ()
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns


def open_folder(folder: Path) -> Parts | None:
    """Map the files of a folder; None if it is not there, or not whole."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if any((folder / name).stat().st_size != size for name, size in record["sizes"].items()):
            return None
        least, most = record["code_range"]
        return Parts(
            n_codebooks=record["n_codebooks"],
            code_range=(least, most),
            text_bytes=record["text_bytes"],
            digest=record["digest"],
            **{name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS},
            codes=_open_codes(folder),
            columns=_open_columns(folder),
        )
    except (OSError, ValueError, KeyError):
        return None


def _open_codes(folder: Path) -> npt.NDArray[np.int16]:
    path = folder / _CODES
    if not path.stat().st_size:  # which cannot be mapped
        return np.empty(0, dtype=np.int16)
    return np.asarray(np.memmap(path, dtype=np.int16, mode="r"))


def _open_columns(folder: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(folder / _COLUMNS))).read_all()


def make_folder(folder: Path, paths: Sequence[str], columns: ColumnTypes) -> Parts:
    """Read all files and write the folder, unless another process did so meanwhile. OSError if the disk is full."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_suffix(".lock")) as alone:
        for dead in folder.parent.glob(f".{folder.name}.*") if alone else ():
            shutil.rmtree(dead)
        if open_folder(folder) is None:
            with written_aside(folder, overwrite=True) as aside:
                _write(aside, paths, columns)
    found = open_folder(folder)
    if found is None:
        raise OSError(f"{folder}: was written, but cannot be read back")
    return found


class _FileSink:
    """Writes codes and columns one after the other. (Through a mapping a full disk would end the process.)"""

    def __init__(self, folder: Path) -> None:
        self._codes = (folder / _CODES).open("wb")
        self._columns = (folder / _COLUMNS).open("wb")
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def add_codes(self, values: npt.NDArray[np.int16]) -> None:
        """Append."""
        with _writing(self._codes):
            self._codes.write(np.ascontiguousarray(values).data)

    def add_columns(self, batch: pa.RecordBatch) -> None:
        """Append."""
        with _writing(self._columns):
            self._writer = self._writer or pa.ipc.new_file(self._columns, batch.schema)
            self._writer.write_batch(batch)

    def close(self) -> None:
        """Finish both files."""
        if self._writer is not None:
            with _writing(self._columns):
                self._writer.close()
        for file in (self._codes, self._columns):
            with _writing(file):
                file.close()


@contextmanager
def _writing(file: IO[bytes]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {file.name}: {error.strerror or error}") from error


def _write(folder: Path, paths: Sequence[str], columns: ColumnTypes) -> None:
    folder.mkdir()
    with closing(_FileSink(folder)) as sink:
        found = gather(paths, columns, sink)
    parts = finish(found, _open_codes(folder), _open_columns(folder))
    for name in _ARRAYS:
        with (folder / f"{name}.npy").open("wb") as file, _writing(file):
            np.save(file, getattr(parts, name))
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    record = {"sizes": sizes} | {name: getattr(parts, name) for name in _FIGURES}
    (folder / _RECORD).write_text(json.dumps(record), encoding="utf-8")


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """One process at a time; False on file systems without locks, where several may do the same work."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
