"""Directories and whole files behind a URI: local ones through the system, others through Arrow or fsspec."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from errno import ENAMETOOLONG
from functools import lru_cache
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote, urlsplit

from pipelines.sources.reading import current
from pipelines.sources.uris import ENCODED, container, local_path

if TYPE_CHECKING:
    from pyarrow import fs

_REVISION = re.compile(r"hf://[^#]*(?:@|%40)([0-9a-f]{40})/")


class DamagedError(OSError):
    """The data are damaged: no trouble of the storage."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory."""

    name: str
    uri: str
    is_directory: bool
    size_bytes: int
    source_stat: str | None = None
    """`bytes:nanoseconds`: size and time of the last change, null where the store tells none."""
    is_link: bool = False


@dataclass(frozen=True)
class Directory:
    """The contents of a directory, in the order of names."""

    names: list[str]
    entries: Iterator[Entry]
    links: frozenset[str] = frozenset()
    """Names of links."""


def directory(uri: str) -> Directory:
    """Regular files and directories directly in `uri`, and what links lead to, by name.

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
        except (OSError, ValueError):
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


def folded(name: str) -> str:
    """A name in one Unicode normal form, its ending in small letters: how names compare where none is the same."""
    stem, dot, ending = unicodedata.normalize("NFC", name).rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def alike(uri: str) -> Entry | None:
    """The one file beside `uri` whose name is the same but for its normal form and the case of its ending."""
    folder, _, name = uri.rpartition("/")
    try:
        found = _names(folder, stat_of(folder)).get(folded(unquote(name)))
        return stat(f"{folder}/{quote(os.fsencode(found))}") if found else None
    except OSError:
        return None


@lru_cache(maxsize=4)
def _names(folder: str, _changed: str | None) -> dict[str, str | None]:
    """Names in a folder by how they compare, None where several compare alike; read again when it has changed."""
    names: dict[str, str | None] = {}
    for name in directory(folder).names:
        key = folded(name)
        names[key] = None if key in names else name
    return names


def open_whole(uri: str) -> BinaryIO:
    """A seekable binary file; raises OSError when it cannot be opened. `members.open_file` opens members, too."""
    path = local_path(uri)
    if path is not None:
        try:
            if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
                raise DamagedError("is not a regular file")
            return path.open("rb")
        except ValueError as error:
            raise DamagedError(str(error)) from error
        except OSError as error:
            if error.errno == ENAMETOOLONG:  # no storage will ever give it
                raise DamagedError(error.strerror) from error
            raise
    opened: BinaryIO = _filesystem(uri).open_input_file(_key(uri))
    return opened


def _local_directory(path: Path) -> Directory:
    with os.scandir(path) as scan:
        found = [(item.name, *kind) for item in scan if (kind := _kind(item)) is not None]
    found.sort(key=lambda item: os.fsencode(item[0]))
    links = frozenset(name for name, _, is_link in found if is_link)
    return Directory([name for name, _, _ in found], _local_entries(path, found), links)


def _kind(item: os.DirEntry[str]) -> tuple[bool, bool] | None:
    """True for a directory, and for a link; None for pipes, devices and the like."""
    is_link = item.is_symlink()
    try:
        if item.is_dir():
            return True, is_link
        # A link that leads nowhere is offered, so that it is missed.
        return (False, is_link) if item.is_file() or (is_link and not Path(item.path).exists()) else None
    except OSError:  # a link to itself, say
        return False, is_link


def _local_entries(path: Path, found: list[tuple[str, bool, bool]]) -> Iterator[Entry]:
    folder = f"{path.as_uri().rstrip('/')}/"
    for name, is_directory, is_link in found:
        uri = folder + quote(os.fsencode(name))
        if is_directory:
            yield Entry(name, uri, True, 0, is_link=is_link)
            continue
        try:
            file = os.stat(f"{path}/{name}")  # noqa: PTH116 - a third of the time of Path.stat
        except OSError as error:
            if is_link or not isinstance(error, FileNotFoundError):
                yield Entry(name, uri, False, 0, is_link=is_link)  # whoever reads it says what is wrong
            continue
        stat = f"{file.st_size}:{file.st_mtime_ns}"
        yield Entry(name, uri, False, file.st_size, stat, is_link)


def _remote_directory(uri: str) -> Directory:
    from pyarrow import fs

    infos = _filesystem(uri).get_file_info(fs.FileSelector(_key(uri)))
    known = [info for info in infos if info.type in (fs.FileType.File, fs.FileType.Directory)]
    known.sort(key=lambda info: info.base_name.encode())
    entries = (_entry(info, f"{uri}/{quote(info.base_name)}") for info in known)
    return Directory([info.base_name for info in known], entries)


def _entry(info: fs.FileInfo, uri: str) -> Entry:
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
    return uri if parts.scheme in ENCODED else f"{parts.netloc}{unquote(parts.path)}"


_opened: dict[tuple[str | float, ...], fs.FileSystem] = {}


def _filesystem(uri: str) -> fs.FileSystem:
    """Arrow's own file system, or fsspec's for a scheme that Arrow does not know; one for each host.

    DamagedError for a URI that is none or of an unknown scheme, or where remote files are forbidden.
    """
    reading = current()
    if not reading.remote:
        raise DamagedError("is a remote file, which source.remote forbids")
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise DamagedError(f"is not a URI: {error}") from error
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    key = (parts.scheme, parts.netloc, region, endpoint, reading.retry_s)
    if key not in _opened:
        _opened[key] = _connect(parts.scheme, parts.netloc, region, endpoint, reading.retry_s)
    return _opened[key]


def _connect(scheme: str, host: str, region: str, endpoint: str, retry_s: float) -> fs.FileSystem:
    from pyarrow import fs

    if scheme == "s3":
        # The variables that deltalake knows too, so that source and dataset share them.
        anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true")
        if not region:
            region = "us-east-1" if endpoint else fs.resolve_s3_region(host)
        return fs.S3FileSystem(region=region, endpoint_override=endpoint or None, anonymous=anonymous)
    limit = f"?retry_limit_seconds={retry_s}" if scheme in ("gs", "gcs") else ""
    try:
        return fs.FileSystem.from_uri(f"{scheme}://{host}{limit}")[0]
    except (ValueError, OSError):
        import fsspec  # type: ignore[import-untyped]

        try:
            return fs.PyFileSystem(fs.FSSpecHandler(fsspec.filesystem(scheme)))
        except ImportError as error:
            raise OSError(f"{scheme}:// needs another package: {error}") from error
        except (ValueError, TypeError, AttributeError) as error:
            raise DamagedError(f"{scheme}:// cannot be read: {error}") from error
