"""The process that decodes, `python -m pipelines.audio.decoder_process SOCKET MEMORY_LIMIT`, for a `Decoder`.

Nothing that a file makes a decoder raise ends the process, but for want of memory; that it answers, and ends.
"""

from __future__ import annotations

import errno
import hashlib
import io
import mmap
import os
import resource
import select
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import BinaryIO

import numpy as np

from catalog.reasons import Reason
from pipelines.audio.containers import AudioError, AudioFile, Samples
from pipelines.audio.decode import decode, level_gain
from pipelines.audio.isolated_decoder import (
    Beat,
    Broken,
    DecodeSettings,
    Done,
    Opened,
    OutOfMemory,
    Release,
    Request,
    Wanted,
)
from pipelines.sources import filesystems, uris
from pipelines.sources.members import open_file
from pipelines.sources.reading import set_reading

IN_MEMORY_BYTES = 64 << 20
"""Local files up to this size are read once; larger ones are read for their digest and then for their audio."""
_PIECE_BYTES = 8 << 20
BEAT_S = 1.0
"""The parent hears of progress no more often than this."""
_BYTES = np.dtype(np.float32).itemsize


class SharedSink:
    """Appends to shared memory after the samples of the recordings before."""

    def __init__(self, shared: BinaryIO, first: int) -> None:
        self._shared, self._start, self.written = shared, first * _BYTES, 0
        self.clear()

    def write(self, part: Samples, /) -> None:
        """Append a part (n,)."""
        left = part.data.cast("B")
        while left:
            left = left[self._shared.write(left) :]
        self.written += len(part)

    def clear(self) -> None:
        """Forget all parts."""
        self._shared.truncate(self._start)
        self._shared.seek(self._start)
        self.written = 0

    def array(self) -> Samples:
        """All parts, mapped."""
        before = self._start % mmap.ALLOCATIONGRANULARITY
        size = self.written * _BYTES
        found = mmap.mmap(self._shared.fileno(), before + size, offset=self._start - before)
        return np.frombuffer(found, np.float32, self.written, before)


@dataclass(frozen=True)
class _Held:
    """The last file: segments of one come one after the other."""

    uri: str
    stat: str | None
    digest: str
    file: BinaryIO
    audio: AudioFile
    in_memory: bool


class Child:
    """Decodes; `send` tells the parent."""

    def __init__(self, send: Callable[[object], None]) -> None:
        self._send = send
        self._last_beat = 0.0
        self._held: _Held | None = None

    def serve(self, connection: Connection) -> None:
        """Answer requests until the other side goes away."""
        shared: BinaryIO | None = None
        while True:
            try:
                request: Request | Release = connection.recv()
                if shared is not None and (isinstance(request, Release) or request.fresh):
                    shared.close()
                    shared = None
                if isinstance(request, Release):
                    continue
                if shared is None:
                    shared = os.fdopen(recv_handle(connection), "r+b", buffering=0)
                self._last_beat = time.monotonic()
                self._send(self.outcome(request.wanted, request.settings, SharedSink(shared, request.at)))
            except (EOFError, OSError):
                return
            except MemoryError:
                self._send(OutOfMemory())
                return
            except ImportError as error:
                self._send(Broken(f"{error} (from {getattr(error, 'path', None) or 'nowhere'})"))
                return

    def outcome(self, wanted: Wanted, settings: DecodeSettings, sink: SharedSink) -> Done:
        """Decode into the sink, or say why not; raises MemoryError, and OSError when the parent is gone."""
        set_reading(settings.reading)
        try:
            self._decode(wanted, settings, sink)
            return Done(sink.written)
        except AudioError as error:
            done = Done(0, error.reason.value, str(error))
        except (BrokenPipeError, ConnectionError, MemoryError):
            raise
        except filesystems.DamagedError as error:
            done = Done(0, Reason.UNREADABLE.value, f"cannot be read: {error}")
        except OSError as error:
            if error.errno in (errno.ENOMEM, errno.ENOSPC):
                raise MemoryError from error
            done = Done(0, Reason.UNAVAILABLE.value, f"cannot be read: {error.strerror or error}")
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes a decoder raise ends here
            done = Done(0, Reason.UNREADABLE.value, f"decoding fails: {type(error).__name__}: {error}")
        sink.clear()
        return done

    def _decode(self, wanted: Wanted, settings: DecodeSettings, sink: SharedSink) -> None:
        held = self._open(wanted)
        # Sent before decoding: the row of a file that kills the decoder still says which bytes it was.
        self._send(Opened(held.digest, held.stat))
        decoded = decode(
            held.audio,
            settings.sample_rate,
            settings.limits,
            start_s=wanted.start_s,
            stop_s=wanted.stop_s,
            sink=sink,
            progress=self._beat,
        )
        if settings.loudness != "keep":
            gain = level_gain(decoded.samples, settings.loudness, settings.target_dbfs)
            np.multiply(decoded.samples, np.float32(gain), out=decoded.samples)
        if not held.in_memory and _stat(wanted, held.file) != held.stat:
            raise AudioError(
                Reason.CHANGED, f"was {held.stat} (bytes:nanoseconds) when opened, and changed since"
            )

    def _open(self, wanted: Wanted) -> _Held:
        """The file, opened and hashed; the last one as it was left, if this is another segment of the same bytes."""
        opened = open_file(wanted.uri)
        stat = _stat(wanted, opened)
        if self._held is not None:
            if self._held.uri == wanted.uri and stat is not None and stat == self._held.stat:
                opened.close()
                return self._held
            self.release()
        file, digest = self.loaded(wanted.uri, opened)
        self._held = _Held(wanted.uri, stat, digest, file, AudioFile(file), isinstance(file, io.BytesIO))
        return self._held

    def release(self) -> None:
        """Close the last file."""
        if self._held is not None:
            self._held.audio.close()
            self._held.file.close()
        self._held = None

    def loaded(self, uri: str, opened: BinaryIO) -> tuple[BinaryIO, str]:
        """A seekable file and the digest of its bytes. All but large local files are read into memory."""
        local = uris.local_path(uri) is not None
        if local and os.fstat(opened.fileno()).st_size > IN_MEMORY_BYTES:
            return opened, self.copy(opened, None)
        if isinstance(opened, io.BytesIO):
            return opened, hashlib.sha256(opened.getbuffer()).hexdigest()
        with opened:
            held = _Named()
            held.name = uri.rpartition("/")[2]
            return held, self.copy(opened, held)

    def copy(self, source: BinaryIO, target: BinaryIO | None) -> str:
        """The digest of what `source` holds, which goes to `target` too; whichever is to be read is rewound."""
        digest = hashlib.sha256()
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            if target is not None:
                target.write(piece)
            self._beat()
        for file in filter(None, (source if target is None else None, target)):
            file.seek(0)
        return digest.hexdigest()

    def _beat(self) -> None:
        now = time.monotonic()
        if now - self._last_beat >= BEAT_S:
            self._last_beat = now
            self._send(Beat())


class _Named(io.BytesIO):
    """Bytes with the name of their file, which helps FFmpeg with formats that have no signature."""

    name = ""


def _stat(wanted: Wanted, opened: BinaryIO) -> str | None:
    if uris.local_path(wanted.uri) is None:
        return wanted.source_stat or filesystems.stat_of(wanted.uri)
    found = os.fstat(opened.fileno())
    return f"{found.st_size}:{found.st_mtime_ns}"


def _end_with_parent(connection: Connection) -> None:
    """A decoder that hangs must not outlive its worker."""
    poll = select.poll()
    poll.register(connection.fileno(), 0)  # no event but the other end's closing
    poll.poll()
    os._exit(0)


def main(descriptor: int, memory_limit_bytes: int) -> None:
    """Serve the parent at the other end of a socket; a limit of 0 is none."""
    connection = Connection(descriptor)
    threading.Thread(target=_end_with_parent, args=[connection], daemon=True).start()
    if memory_limit_bytes:
        # Of private memory: what is shared with the parent is not the decoder's own.
        resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
    Child(connection.send).serve(connection)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
