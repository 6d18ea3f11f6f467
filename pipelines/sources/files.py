"""Directories and files behind a path or a URI: local ones through the system, others through Arrow."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit


@dataclass(frozen=True)
class Entry:
    """One name in a directory."""

    name: str
    uri: str
    is_directory: bool
    size_bytes: int


def is_uri(location: str) -> bool:
    """Whether `location` starts with a scheme; a single letter is a drive, not a scheme."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", location) is not None


def to_uri(location: str) -> str:
    """An absolute URI of a path or URI, without a trailing slash."""
    if is_uri(location):
        return location.rstrip("/")
    return Path(location).absolute().as_uri()


def local_path(uri: str) -> Path | None:
    """The path of a `file:` URI, None for any other scheme."""
    parts = urlsplit(uri)
    # unquote_to_bytes keeps names that are not UTF-8, which a str cannot hold in an Arrow column.
    return Path(os.fsdecode(unquote_to_bytes(parts.path))) if parts.scheme == "file" else None


def join(uri: str, relative: str) -> str:
    """The URI of `relative` (a path with forward slashes) below `uri`."""
    path = local_path(uri)
    if path is None:
        return f"{uri}/{relative}"
    return Path(os.path.normpath(path / relative)).as_uri()


def entries(uri: str) -> list[Entry]:
    """Regular files and directories directly in `uri`, by name; links to directories are not followed."""
    path = local_path(uri)
    if path is None:
        return _remote_entries(uri)
    found = []
    with os.scandir(path) as scan:
        for item in scan:
            is_directory = item.is_dir(follow_symlinks=False)
            if is_directory or item.is_file():
                size = 0 if is_directory else item.stat().st_size
                found.append(Entry(item.name, Path(item.path).as_uri(), is_directory, size))
    return sorted(found, key=lambda entry: os.fsencode(entry.name))


def stat(uri: str) -> Entry | None:
    """The file or directory at `uri`, None when there is none."""
    path = local_path(uri)
    if path is not None:
        if not path.exists():
            return None
        return Entry(path.name, uri, path.is_dir(), path.stat().st_size)
    from pyarrow import fs

    info = _filesystem(urlsplit(uri).scheme, urlsplit(uri).netloc, uri).get_file_info(_key(uri))
    if info.type == fs.FileType.NotFound:
        return None
    return Entry(info.base_name, uri, info.type == fs.FileType.Directory, info.size or 0)


def sidecar(uri: str) -> str | None:
    """The URI of the `.txt` beside an audio file, None when there is none."""
    folder, _, name = uri.rpartition("/")
    text_uri = f"{folder}/{name.rpartition('.')[0] or name}.txt"
    return text_uri if stat(text_uri) is not None else None


def open_file(uri: str) -> BinaryIO:
    """A seekable binary file; raises OSError when it cannot be opened."""
    path = local_path(uri)
    if path is not None:
        return path.open("rb")
    parts = urlsplit(uri)
    opened: BinaryIO = _filesystem(parts.scheme, parts.netloc, uri).open_input_file(_key(uri))
    return opened


def _remote_entries(uri: str) -> list[Entry]:
    from pyarrow import fs

    parts = urlsplit(uri)
    infos = _filesystem(parts.scheme, parts.netloc, uri).get_file_info(fs.FileSelector(_key(uri)))
    found = [
        Entry(info.base_name, f"{uri}/{info.base_name}", info.type == fs.FileType.Directory, info.size or 0)
        for info in infos
        if info.type in (fs.FileType.File, fs.FileType.Directory)
    ]
    return sorted(found, key=lambda entry: entry.name.encode())


def _key(uri: str) -> str:
    parts = urlsplit(uri)
    return f"{parts.netloc}{parts.path}"


@cache
def _filesystem(scheme: str, _host: str, uri: str) -> Any:
    """Arrow's own file system, or fsspec's for a scheme that Arrow does not know."""
    from pyarrow import fs

    try:
        return fs.FileSystem.from_uri(uri)[0]
    except (ValueError, OSError):
        import fsspec  # type: ignore[import-untyped]

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
