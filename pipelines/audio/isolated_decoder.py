"""Decoding in a process of its own: a file that kills the decoder is named and rejected, and nothing else dies.

Requests to the child (`pipelines.audio.decoder_process`) and its answers travel over a socket pair, samples through
shared memory that the parent makes for every batch: the child writes blocks into it as they come, the parent maps it,
nobody copies. For each request the child says which bytes it has opened, then that it gets on (at most once a second),
then the outcome. It ends when its parent does, and takes no more memory for itself than its limit.
"""

from __future__ import annotations

import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import BinaryIO, Literal, NamedTuple, cast

import numpy as np

from catalog.command import JobError
from catalog.import_path import import_path
from catalog.reasons import Reason
from pipelines.audio.containers import Samples
from pipelines.audio.decode import Limits
from pipelines.sources.reading import Reading

ATTEMPTS = 2
"""A file that kills the decoder this often is rejected."""
_BYTES = np.dtype(np.float32).itemsize


@dataclass(frozen=True)
class DecodeSettings:
    """Treatment of every recording while it is decoded."""

    sample_rate: int
    limits: Limits
    loudness: Literal["keep", "peak", "rms"] = "keep"
    target_dbfs: float = -20.0
    reading: Reading = field(default_factory=Reading)


@dataclass(frozen=True)
class Wanted:
    """A recording to decode: a file, or a segment of it."""

    uri: str
    start_s: float | None = None
    stop_s: float | None = None
    source_stat: str | None = None
    """As in `Decoded.stat`, where it is known already."""


@dataclass(frozen=True)
class Decoded:
    """The outcome for one recording: samples, or the reason why there are none."""

    digest: str | None
    """sha256 (hex) of the whole file's bytes; None when it could not be opened."""
    samples: Samples | None
    """(T,) float32, read-only."""
    reason: Reason | None = None
    detail: str = ""
    stat: str | None = None
    """`bytes:nanoseconds` of the file that was opened; None where it has no such thing."""
    length: int = 0
    """Samples in the batch's array, also of a recording that is rejected later for another cause."""


class Request(NamedTuple):
    """Decode into shared memory, after the first `at` samples; `fresh`: new shared memory follows."""

    wanted: Wanted
    settings: DecodeSettings
    at: int
    fresh: bool


class Release(NamedTuple):
    """The batch is done: let go of its shared memory."""


class Opened(NamedTuple):
    """The file is found and read."""

    digest: str
    stat: str | None


class Beat(NamedTuple):
    """The decoder gets on."""


class OutOfMemory(NamedTuple):
    """The decoder has reached its limit, and ends."""


class Broken(NamedTuple):
    """The decoder itself cannot run: no fault of any file."""

    detail: str


class Done(NamedTuple):
    """The outcome: so many samples written, or the reason why none."""

    samples: int
    reason: str | None = None
    detail: str = ""


class _MemoryLimitError(Exception):
    pass


class Decoder:
    """Decodes one file after the other in a child process, which is replaced when it dies."""

    def __init__(
        self, settings: DecodeSettings, timeout_s: float = 600.0, memory_limit_bytes: int | None = 3 << 30
    ) -> None:
        """A decoder that makes no progress for `timeout_s` is given up.

        `memory_limit_bytes` bounds what it takes for itself; the samples, which `settings.limits` bounds, come on top.
        """
        self._settings = settings
        self._timeout_s = timeout_s
        self._limit = memory_limit_bytes
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._connected()  # the child starts while its owner loads a codec

    def decode(self, uri: str, start_s: float | None = None, stop_s: float | None = None) -> Decoded:
        """Decode a file or a segment of it; never raises for anything that is wrong with the file.

        JobError if the decoder's own program cannot run.
        """
        return self.decode_all([Wanted(uri, start_s, stop_s)])[0][0]

    def decode_all(self, batch: Sequence[Wanted]) -> tuple[list[Decoded], Samples]:
        """Decode in order; the samples of all, which lie one after the other in the array returned beside them."""
        with _shared_file() as shared:
            outcomes, ends, handed = [], [0], False
            for wanted in batch:
                outcome, samples, handed = self._one(wanted, shared, ends[-1], handed)
                outcomes.append(outcome)
                ends.append(ends[-1] + samples)
            waves = _mapped(shared, ends[-1])
            self._release(handed)
        return [
            one
            if one.reason
            else replace(one, samples=waves[ends[row] : ends[row + 1]], length=ends[row + 1] - ends[row])
            for row, one in enumerate(outcomes)
        ], waves

    def close(self) -> None:
        """End the child process."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._connection = None

    def _one(self, wanted: Wanted, shared: BinaryIO, at: int, handed: bool) -> tuple[Decoded, int, bool]:
        """The outcome without its samples, how many there are, and whether the child has the shared memory."""
        opened, detail = None, ""
        for _ in range(ATTEMPTS):
            child, connection = self._connected()
            try:
                connection.send(Request(wanted, self._settings, at, not handed))
                if not handed:
                    send_handle(connection, shared.fileno(), child.pid)
                    handed = True
                while not isinstance(answer := self._receive(connection), Done):
                    opened = answer if isinstance(answer, Opened) else opened
                reason = None if answer.reason is None else Reason(answer.reason)
                return _outcome(opened, reason, answer.detail), answer.samples, True
            except (EOFError, OSError, _MemoryLimitError) as error:
                detail = (
                    self._exit_message()
                    if isinstance(error, EOFError | ConnectionError)
                    else f"the decoder {error}"
                )
                self.close()
                handed = False
        return _outcome(opened, Reason.DECODER_CRASHED, f"{detail} ({ATTEMPTS} attempts)"), 0, handed

    def _release(self, handed: bool) -> None:
        if handed and self._connection is not None:
            try:
                self._connection.send(Release())
            except OSError:
                self.close()

    def _receive(self, connection: Connection) -> Opened | Beat | Done:
        if not connection.poll(self._timeout_s):
            raise TimeoutError(f"gave no answer within {self._timeout_s:g} s")
        answer = connection.recv()
        if isinstance(answer, Broken):
            self.close()
            raise JobError(f"the decoder cannot run: {answer.detail}")
        if isinstance(answer, OutOfMemory):
            raise _MemoryLimitError(f"needs more than its {(self._limit or 0) / 2**20:g} MiB of memory")
        return cast("Opened | Beat | Done", answer)

    def _exit_message(self) -> str:
        """Describe the child's end; JobError for an end by its own program's fault, which no file has."""
        code = self._child.wait() if self._child is not None else 0
        if code == 1:
            self.close()
            raise JobError(
                "the decoder's program does not start or fails; try `python -P -m pipelines --help`"
            )
        return f"the decoder died (exit code {code})"

    def _connected(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._child is None or self._connection is None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._child = subprocess.Popen(
                    [
                        sys.executable,
                        # A folder of recordings is data: nothing is imported from the working directory.
                        "-P",
                        "-m",
                        "pipelines.audio.decoder_process",
                        str(theirs.fileno()),
                        str(self._limit or 0),
                    ],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
                )
            self._connection = Connection(ours.detach())
        return self._child, self._connection


def _outcome(opened: Opened | None, reason: Reason | None, detail: str) -> Decoded:
    return Decoded(opened and opened.digest, None, reason, detail, opened and opened.stat)


def _shared_file() -> BinaryIO:
    """Memory that two processes can map; a nameless file where the system knows none."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("samples"), "r+b", buffering=0)
    return cast("BinaryIO", tempfile.TemporaryFile(buffering=0))


def _mapped(shared: BinaryIO, samples: int) -> Samples:
    if not samples:
        return np.zeros(0, np.float32)
    return np.frombuffer(mmap.mmap(shared.fileno(), samples * _BYTES, access=mmap.ACCESS_READ), np.float32)
