"""URIs of files and of what is in them: absolute, percent-encoded, so that a name may hold any character.

A fragment addresses a member of a container (`members.py`): `archive.tar#offset=512&length=9000`.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|file:")
_STEPS = {"", ".", ".."}
ENCODED = {"file", "http", "https"}
"""Schemes whose URIs people write percent-encoded; names in object stores are written as they are."""


def is_uri(location: str) -> bool:
    """True if `location` starts with a scheme; a single letter is a drive, not a scheme."""
    return _SCHEME.match(location) is not None


def to_uri(location: str) -> str:
    """An absolute URI of a path or of a location as people write it, without a trailing slash."""
    if not is_uri(location):
        return Path(location).absolute().as_uri()
    scheme, _, rest = location.rstrip("/").partition("://")
    return location.rstrip("/") if scheme.partition(":")[0] in ENCODED else f"{scheme}://{quote(rest)}"


def local_path(uri: str) -> Path | None:
    """The path of a `file:` URI, None for any other scheme and for a member of a container."""
    if not uri.startswith("file:"):
        return None
    parts = urlsplit(uri)
    # unquote_to_bytes keeps names that are not UTF-8, which a str cannot hold in an Arrow column.
    return None if parts.fragment else Path(os.fsdecode(unquote_to_bytes(parts.path)))


def shown(uri: str) -> str:
    """The location as messages name it: the path of a local file, else the URI."""
    return str(local_path(uri) or uri)


def is_member(uri: str) -> bool:
    """True for a part of a file, False for a whole one."""
    return "#" in uri


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


def located(model: str) -> str:
    """A model's file or directory as seen from workers, whose working directory may be another; names stay."""
    return str(Path(model).absolute()) if model and Path(model).exists() else model
