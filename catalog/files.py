"""Files and folders that appear whole or not at all: made aside, flushed to disk, renamed. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_ASIDE = re.compile(
    r"\.(?P<name>.+)\.(?P<machine>[0-9a-f]{8})(?P<pid>[0-9a-f]{8})[0-9a-f]{16}\.tmp", re.DOTALL
)
_NAME_BYTES = 200
"""Of the target's name in the name aside, which file systems limit to 255 bytes."""


def write_bytes(target: Path, data: bytes | memoryview) -> None:
    """Create or replace a file. Raises OSError, and leaves what was there."""
    with _renamed(target) as aside, aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_text(target: Path, text: str) -> None:
    """Create or replace a file of UTF-8 text. Raises OSError, and leaves what was there."""
    write_bytes(target, text.encode("utf-8"))


@contextmanager
def written_aside(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A path beside `target`; the file or folder that the caller makes there becomes `target` at the end.

    A file replaces a file, and either replaces an empty folder; `overwrite` lets a folder replace one that is not
    empty. After an error, what was made is deleted and what was there stays. Raises OSError.
    """
    with _renamed(target, overwrite) as aside:
        yield aside
        for folder, _, names in os.walk(aside):
            for name in names:
                sync(Path(folder) / name)
            sync(Path(folder))
        if aside.is_file():
            sync(aside)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other jobs from writing into `folder`, which is made, and goes again if nothing was put there.

    BlockingIOError names a folder in which another one writes. Nothing is kept where the file system has no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another job writes there", str(folder)) from error
        except OSError:
            pass
        clear_asides(folder)
        try:
            yield
        finally:
            with suppress(OSError):
                folder.rmdir()
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _renamed(target: Path, overwrite: bool = False) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target)
    try:
        yield aside
        _put(aside, target, overwrite)
        sync(target.absolute().parent)
    except (OSError, RuntimeError) as error:
        named = _of_target(error, aside, target)
        if named is None:
            raise
        raise named from error
    finally:
        if aside.is_dir():
            shutil.rmtree(aside)
        aside.unlink(missing_ok=True)


def _of_target(error: OSError | RuntimeError, aside: Path, target: Path) -> OSError | None:
    """The error with the name of the target in the place of that aside; None for an error of something else.

    Libraries say that there is no room without its number (Arrow) or as a RuntimeError (HDF5), and without a name.
    """
    name, number, text = (getattr(error, "filename", None), getattr(error, "errno", None), str(error))
    if name is not None:
        inside = Path(os.fsdecode(name)).is_relative_to(aside)
        return OSError(number, getattr(error, "strerror", text), str(target)) if inside else None
    found = next((code for code in _NO_ROOM if number == code or os.strerror(code) in text), None)
    return None if found is None else OSError(found, os.strerror(found), str(target))


def _put(aside: Path, target: Path, overwrite: bool) -> None:
    if overwrite and target.is_dir():
        old = _aside(target)
        target.rename(old)
        aside.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return
    if target.is_dir() and not aside.is_dir():
        target.rmdir()
    aside.replace(target)


def _aside(target: Path) -> Path:
    name = os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
    return target.with_name(f".{name}.{_machine()}{os.getpid():08x}{uuid.uuid4().hex[:16]}.tmp")


def clear_asides(folder: Path, name: str = "") -> None:
    """Delete what processes of this machine that are dead left aside in `folder`, for the target `name` or any."""
    with suppress(OSError):
        for path in list(folder.iterdir()):
            found = _ASIDE.fullmatch(path.name)
            if (
                found is None
                or name not in ("", found["name"])
                or not _is_dead(found["machine"], found["pid"])
            ):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _is_dead(machine: str, pid: str) -> bool:
    if machine != _machine():
        return False
    try:
        os.kill(int(pid, 16), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


@cache
def _machine() -> str:
    """8 hex digits of where a process id means the same."""
    return hashlib.sha256("\0".join(where().values()).encode()).hexdigest()[:8]


def where() -> dict[str, str]:
    """Where this process runs: host, its start, and the set of process ids (containers have their own).

    A process id that a file names is one of here only where all are equal.
    """
    namespace, boot = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "pid_namespace": str(namespace.readlink()) if namespace.is_symlink() else "",
    }
