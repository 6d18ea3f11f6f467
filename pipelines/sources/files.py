"""Directories and files behind a path or a URI: local ones through the system, others through Arrow or fsspec.

A URI is percent-encoded, so that a name may hold any character. A fragment addresses a member of a container
(`members.py`): `archive.tar#offset=512&length=9000`.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:")
_STEPS = {"", ".", ".."}
_REVISION = re.compile(r"hf://[^#]*(?:@|%40)([0-9a-f]{40})/")
_ENCODED = {"file", "http", "https"}
"""Schemes whose URIs people write percent-encoded; names in object stores are written as they are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    uri: str
    is_directory: bool
    size_bytes: int
    source_stat: str | None = None
    """`bytes:nanoseconds`: size and time of the last change, null where the store tells none."""


@dataclass(frozen=True)
class Directory:
    """What a directory holds, in the order of names."""

    names: list[str]
    entries: Iterator[Entry]


def is_uri(location: str) -> bool:
    """Whether `location` starts with a scheme; a single letter is a drive, not a scheme."""
    return _SCHEME.match(location) is not None


def to_uri(location: str) -> str:
    """An absolute URI of a path or of a location as people write it, without a trailing slash."""
    if not is_uri(location):
        return Path(location).absolute().as_uri()
    scheme, _, rest = location.rstrip("/").partition("://")
    return location.rstrip("/") if scheme.partition(":")[0] in _ENCODED else f"{scheme}://{quote(rest)}"


def local_path(uri: str) -> Path | None:
    """The path of a `file:` URI, None for any other scheme and for a member of a container."""
    if not uri.startswith("file:"):
        return None
    parts = urlsplit(uri)
    # unquote_to_bytes keeps names that are not UTF-8, which a str cannot hold in an Arrow column.
    return None if parts.fragment else Path(os.fsdecode(unquote_to_bytes(parts.path)))


def container(uri: str) -> str:
    """The file that holds a member; any other URI as it is."""
    return uri.partition("#")[0]


def parent(uri: str) -> str:
    """The directory of a file."""
    return container(uri).rpartition("/")[0]


def join(uri: str, relative: str) -> str:
    """The URI of `relative` (a path with forward slashes) below `uri`."""
    if _STEPS.isdisjoint(relative.split("/")):
        return f"{uri}/{quote(os.fsencode(relative))}"
    path = local_path(uri)
    if path is not None:
        return Path(os.path.normpath(path / relative)).as_uri()
    scheme, _, rest = uri.partition("://")
    host, _, key = rest.partition("/")
    below = posixpath.normpath(posixpath.join("/", unquote(key), relative)).lstrip("/")
    return f"{scheme}://{host}/{quote(below)}"


def resolve(reference: str, folder: str) -> str:
    """The URI of what a table in `folder` calls `reference`: a URI, an absolute or a relative path."""
    if is_uri(reference):
        return to_uri(reference)
    return Path(reference).as_uri() if reference.startswith("/") else join(folder, reference)


def directory(uri: str) -> Directory:
    """Regular files and directories directly in `uri`, by name; links to directories are not followed.

    Raises OSError when `uri` is no directory. Of local files only the names are held, so that a million of them fit.
    """
    path = local_path(uri)
    return _remote_directory(uri) if path is None else _local_directory(path)


def stat(uri: str) -> Entry | None:
    """The file or directory at `uri` (of a member: its container), None when there is none."""
    uri = container(uri)
    path = local_path(uri)
    if path is not None:
        try:
            found = path.stat()
        except OSError:
            return None
        return Entry(path.name, uri, path.is_dir(), found.st_size, f"{found.st_size}:{found.st_mtime_ns}")
    from pyarrow import fs

    info = _filesystem(uri).get_file_info(_key(uri))
    return None if info.type == fs.FileType.NotFound else _entry(info, uri)


def stat_of(uri: str) -> str | None:
    """Size and time of the last change, `bytes:nanoseconds`; None where there is no such file or time."""
    try:
        found = stat(uri)
    except OSError:
        return None
    return found.source_stat if found else None


def sidecar(uri: str) -> str | None:
    """The URI of the `.txt` beside an audio file, None when there is none."""
    folder, _, name = uri.rpartition("/")
    text_uri = f"{folder}/{name.rpartition('.')[0] or name}.txt"
    return text_uri if stat(text_uri) is not None else None


def open_file(uri: str) -> BinaryIO:
    """A seekable binary file, of a member just its bytes; raises OSError when it cannot be opened."""
    if "#" in uri:
        from pipelines.sources.members import open_member

        return open_member(uri)
    path = local_path(uri)
    if path is not None:
        return path.open("rb")
    opened: BinaryIO = _filesystem(uri).open_input_file(_key(uri))
    return opened


def _local_directory(path: Path) -> Directory:
    with os.scandir(path) as scan:
        found = [
            (item.name, is_directory)
            for item in scan
            if (is_directory := item.is_dir(follow_symlinks=False)) or item.is_file()
        ]
    found.sort(key=lambda item: os.fsencode(item[0]))
    return Directory([name for name, _ in found], _local_entries(path, found))


def _local_entries(path: Path, found: list[tuple[str, bool]]) -> Iterator[Entry]:
    folder = f"{path.as_uri().rstrip('/')}/"
    for name, is_directory in found:
        uri = folder + quote(os.fsencode(name))
        if is_directory:
            yield Entry(name, uri, True, 0)
            continue
        try:
            file = os.stat(f"{path}/{name}")  # noqa: PTH116 - a third of the time of Path.stat
        except FileNotFoundError:  # gone since
            continue
        yield Entry(name, uri, False, file.st_size, f"{file.st_size}:{file.st_mtime_ns}")


def _remote_directory(uri: str) -> Directory:
    from pyarrow import fs

    infos = _filesystem(uri).get_file_info(fs.FileSelector(_key(uri)))
    known = [info for info in infos if info.type in (fs.FileType.File, fs.FileType.Directory)]
    known.sort(key=lambda info: info.base_name.encode())
    entries = (_entry(info, f"{uri}/{quote(info.base_name)}") for info in known)
    return Directory([info.base_name for info in known], entries)


def _entry(info: Any, uri: str) -> Entry:
    from pyarrow import fs

    # A hub tells no times, but a revision never changes.
    revision = _REVISION.search(uri)
    changed = info.mtime_ns if info.mtime_ns is not None else revision and revision[1]
    return Entry(
        info.base_name,
        uri,
        info.type == fs.FileType.Directory,
        info.size or 0,
        f"{info.size}:{changed}" if info.size is not None and changed is not None else None,
    )


def _key(uri: str) -> str:
    parts = urlsplit(uri)
    return uri if parts.scheme in _ENCODED else f"{parts.netloc}{unquote(parts.path)}"


_opened: dict[tuple[str, ...], Any] = {}


def _filesystem(uri: str) -> Any:
    """Arrow's own file system, or fsspec's for a scheme that Arrow does not know; one for each host."""
    parts = urlsplit(uri)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    key = (parts.scheme, parts.netloc, region, endpoint)
    if key not in _opened:
        _opened[key] = _connect(parts.scheme, parts.netloc, region, endpoint)
    return _opened[key]


def _connect(scheme: str, host: str, region: str, endpoint: str) -> Any:
    from pyarrow import fs

    if scheme == "s3":
        # The variables that deltalake knows too, so that source and dataset share them.
        anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
        if not region:
            region = "us-east-1" if endpoint else fs.resolve_s3_region(host)
        return fs.S3FileSystem(region=region, endpoint_override=endpoint or None, anonymous=anonymous)
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{host}")[0]
    except (ValueError, OSError):
        import fsspec  # type: ignore[import-untyped]

        return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
