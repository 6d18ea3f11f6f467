"""The files under a table's root: a local folder, or any object store that deltalake reaches (s3://, gs://, az://).

Object stores use deltalake's own client, so data and log share one set of credentials.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.fs

from catalog import files
from catalog.command import JobError


@dataclass(frozen=True)
class FileStat:
    """Size in bytes and modification time in seconds since the epoch."""

    size_bytes: int
    modified_s: float


class Storage(Protocol):
    """Files by path relative to the root."""

    uri: str

    def open(self, path: str) -> pa.NativeFile:
        """Random access for reading. Raises FileNotFoundError."""

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        """Create or replace in one step: the name appears when the data is durable. Raises JobError."""

    def delete(self, path: str) -> None:
        """Remove the file; it may be gone already."""

    def move(self, path: str, target: str) -> None:
        """Rename a file, replacing one of that name. Raises FileNotFoundError."""

    def sync(self, path: str) -> None:
        """Make a file that another library wrote survive a power cut."""

    def exists(self, path: str) -> bool:
        """True if the file is there."""

    def listing(self, folder: str = "") -> dict[str, FileStat]:
        """All files below a folder, {} where there is none."""


def canonical_uri(location: str | Path) -> str:
    """An absolute local path, or the URI without its trailing slash."""
    text = str(location)
    if text.startswith("file:"):
        text = unquote(urlparse(text).path)
    elif "://" in text:
        return text.rstrip("/")
    return str(Path(text).expanduser().absolute())


def open_storage(location: str | Path) -> Storage:
    """Storage rooted at a folder or URI. Nothing is created."""
    uri = canonical_uri(location)
    return _Local(uri) if uri.startswith(os.sep) or "://" not in uri else _Remote(uri)


class _Local:
    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._root = Path(uri)

    def open(self, path: str) -> pa.NativeFile:
        return pa.OSFile(str(self._readable(path)), "rb")

    def read(self, path: str) -> bytes:
        return self._readable(path).read_bytes()

    def _readable(self, path: str) -> Path:
        """The file; OSError for a pipe or a device, which would be waited for."""
        file = self._root / path
        kind = file.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise OSError(errno.EINVAL, "is not a regular file", str(file))
        return file

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        target = self._root / path
        if not self._root.is_dir():  # making it again would leave files without a log
            raise JobError(f"{self._root}: the dataset was removed or moved while this job ran")
        try:
            files.write_bytes(target, memoryview(data))
        except OSError as error:
            raise JobError(f"{target}: cannot write {len(data)} bytes: {error.strerror or error}") from error

    def delete(self, path: str) -> None:
        (self._root / path).unlink(missing_ok=True)

    def move(self, path: str, target: str) -> None:
        place = self._root / target
        place.parent.mkdir(parents=True, exist_ok=True)
        (self._root / path).replace(place)
        files.sync(place.parent)

    def sync(self, path: str) -> None:
        target = self._root / path
        files.sync(target)
        files.sync(target.parent)

    def exists(self, path: str) -> bool:
        return (self._root / path).is_file()

    def listing(self, folder: str = "") -> dict[str, FileStat]:
        found = {}
        for parent, _, names in os.walk(self._root / folder):
            for name in names:
                file = Path(parent) / name
                try:
                    status = file.stat()
                except OSError as error:
                    # Another job's file, renamed or deleted since; or a link that leads nowhere.
                    if error.errno in (errno.ENOENT, errno.ELOOP):
                        continue
                    raise
                found[file.relative_to(self._root).as_posix()] = FileStat(status.st_size, status.st_mtime)
        return found


class _Remote:
    def __init__(self, uri: str) -> None:
        from deltalake.fs import DeltaStorageHandler

        self.uri = uri
        handler = DeltaStorageHandler(uri)
        self._files = pa.fs.PyFileSystem(handler)
        # deltalake 1.6 takes only bytes where pyarrow 25 hands a stream a Buffer, so writes go past pyarrow.
        self._open_output = handler._handler.open_output_stream

    def open(self, path: str) -> pa.NativeFile:
        return self._files.open_input_file(path)

    def read(self, path: str) -> bytes:
        with self._files.open_input_file(path) as file:
            return bytes(file.read())

    def write(self, path: str, data: bytes | pa.Buffer) -> None:
        try:
            stream = self._open_output(path)
            stream.write(bytes(data))
            stream.close()
        except OSError as error:
            raise JobError(f"{self.uri}/{path}: cannot write {len(data)} bytes: {error}") from error

    def delete(self, path: str) -> None:
        try:
            self._files.delete_file(path)
        except FileNotFoundError:
            return

    def move(self, path: str, target: str) -> None:
        self._files.move(path, target)

    def sync(self, path: str) -> None:
        """A finished upload is durable."""

    def exists(self, path: str) -> bool:
        return bool(self._files.get_file_info(path).is_file)

    def listing(self, folder: str = "") -> dict[str, FileStat]:
        selector = pa.fs.FileSelector(folder, allow_not_found=True, recursive=True)
        infos = self._files.get_file_info(selector)
        return {info.path: FileStat(info.size, info.mtime.timestamp()) for info in infos if info.is_file}
