"""Members of containers, each with a URI of its own, so that a worker reads one without its source.

`shard.tar#offset=N&length=M`                  the bytes of a file in an uncompressed tar
`part.parquet#row_group=G&row=R&column=audio`  a value of a column: bytes, or struct<bytes, path>
`part.arrow#batch=B&row=R&column=audio`        the same of an Arrow file
`part.arrow#offset=N&row=R&column=audio`       the same of an Arrow stream, whose batch begins at byte N
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa

from pipelines.sources.filesystems import DamagedError, open_whole
from pipelines.sources.uris import is_member, local_path, parent, resolve

_ROWS = 16
"""Rows of a row group that are held at a time; a row group of audio may take gigabytes."""
_BUFFER = 1 << 20

Value = bytes | Mapping[str, Any] | None
"""Of an audio column: bytes, or Hugging Face's struct of bytes and path."""


def member_uri(container: str, **address: int | str) -> str:
    """The URI of a member of `container`."""
    return f"{container}#{urlencode(address)}"


def open_file(uri: str) -> BinaryIO:
    """A seekable binary file, of a member just its bytes; raises OSError when it cannot be opened."""
    return _open_member(uri) if is_member(uri) else open_whole(uri)


def _open_member(uri: str) -> BinaryIO:
    container, _, fragment = uri.partition("#")
    address = dict(parse_qsl(fragment))
    try:
        if "length" in address:
            return io.BytesIO(_range(container, int(address["offset"]), int(address["length"])))
        return _opened(_value(container, address), uri)
    except (KeyError, IndexError, ValueError, pa.ArrowException) as error:
        raise DamagedError(f"{uri}: no such member ({error})") from error


def open_arrow(uri: str) -> pa.NativeFile | BinaryIO:
    """An Arrow file: local ones are mapped, so that skipped columns are never read."""
    path = local_path(uri)
    return pa.memory_map(str(path)) if path is not None else open_whole(uri)


def is_arrow_file(file: pa.NativeFile | BinaryIO) -> bool:
    """True for an Arrow file, which has an index, False for a stream; leaves it at its start."""
    start = file.read(6)
    file.seek(0)
    return bytes(start) == b"ARROW1"


def _range(container: str, offset: int, length: int) -> bytes:
    with open_whole(container) as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) < length:
        raise DamagedError(f"{container}: ends {length - len(data)} bytes before the end of a member")
    return data


def _value(container: str, address: dict[str, str]) -> Value:
    column, row = address["column"], int(address["row"])
    if "row_group" in address:
        return _row_group(container, int(address["row_group"]), column).value(row)
    with open_arrow(container) as file:
        if is_arrow_file(file):
            batch = pa.ipc.open_file(file).get_batch(int(address["batch"]))
        else:
            schema = pa.ipc.read_schema(file)
            file.seek(int(address["offset"]))
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(file), schema)
        values = batch[column]
        # Offsets that point elsewhere end the process where they are followed.
        values.validate(full=True)
        found: Value = values[row].as_py()
        return found


def _opened(value: Value, uri: str) -> BinaryIO:
    """A value of an audio column: bytes, or Hugging Face's struct of bytes and path."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
    if data is not None:
        return io.BytesIO(data)
    if path is None:
        raise DamagedError(f"{uri}: the row holds no audio")
    return open_file(resolve(path, parent(uri)))


class _RowGroup:
    """A column of a row group, read forwards in small steps; a step back starts again."""

    def __init__(self, container: str, group: int, column: str) -> None:
        self.key = (container, group, column)
        self._file: BinaryIO | None = None
        self._start, self._batch = 0, pa.array([])
        self._batches: Iterator[pa.Array] = iter(())

    def value(self, row: int) -> Value:
        """The value at `row` of the group; raises IndexError beyond its end."""
        if self._file is None or row < self._start:
            self._open()
        while row >= self._start + len(self._batch):
            self._start += len(self._batch)
            self._batch = next(self._batches, None)
            if self._batch is None:
                self.close()
                raise IndexError(f"the row group ends before row {row}")
        found: Value = self._batch[row - self._start].as_py()
        return found

    def close(self) -> None:
        """Give up the file and the rows."""
        if self._file is not None:
            self._file.close()
        self._file, self._start, self._batch, self._batches = None, 0, pa.array([]), iter(())

    def _open(self) -> None:
        import pyarrow.parquet as pq

        self.close()
        container, group, column = self.key
        self._file = open_whole(container)
        table = pq.ParquetFile(self._file, buffer_size=_BUFFER, pre_buffer=False)
        if not 0 <= group < table.num_row_groups:
            raise IndexError(f"{table.num_row_groups} row groups")
        if column not in table.schema_arrow.names:
            raise KeyError(column)
        batches = table.iter_batches(_ROWS, row_groups=[group], columns=[column], use_threads=False)
        self._batches = (batch.column(0) for batch in batches)


class _Last(threading.local):
    """Rows come in order, so the last row group is most often the next."""

    group: _RowGroup | None = None


_last = _Last()


def _row_group(container: str, group: int, column: str) -> _RowGroup:
    if _last.group is None or _last.group.key != (container, group, column):
        if _last.group is not None:
            _last.group.close()
        _last.group = _RowGroup(container, group, column)
    return _last.group
