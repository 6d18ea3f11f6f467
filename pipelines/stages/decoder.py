"""Decoding in a process of its own: a file that kills the decoder is named and rejected, and nothing else dies.

The child is `python -m pipelines.stages.decoder FD`; requests and answers travel over a socket pair. It ends when its
parent does. For each request it answers twice: the digest of the bytes, then the samples or the reason.
"""

from __future__ import annotations

import hashlib
import io
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from catalog.reasons import Reason
from pipelines import audio
from pipelines.audio import AudioError, Limits, Samples
from pipelines.sources import files

ATTEMPTS = 2
"""A file that kills the decoder this often is rejected."""


@dataclass(frozen=True)
class DecodeSettings:
    """What decoding does to every recording."""

    sample_rate: int
    limits: Limits
    loudness: Literal["keep", "peak", "rms"] = "keep"
    target_dbfs: float = -20.0


@dataclass(frozen=True)
class Decoded:
    """The outcome for one recording: samples, or the reason why there are none."""

    digest: str | None
    """sha256 (hex) of the file's bytes; None when it could not be opened."""
    samples: Samples | None
    reason: Reason | None = None
    detail: str = ""


class Decoder:
    """Decodes one file after the other in a child process, which is replaced when it dies."""

    def __init__(self, settings: DecodeSettings, timeout_s: float = 600.0) -> None:
        self._settings = settings
        self._timeout_s = timeout_s
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._connected()  # the child starts while its owner loads a codec

    def decode(self, uri: str) -> Decoded:
        """Decode `uri`; never raises for anything that is wrong with the file."""
        digest: str | None = None
        detail = ""
        for _ in range(ATTEMPTS):
            connection = self._connected()
            try:
                connection.send((uri, self._settings))
                digest = cast("str | None", self._receive(connection))
                return self._answer(connection, digest)
            except (EOFError, OSError) as error:
                detail = f"the decoder {error}" if isinstance(error, TimeoutError) else self._epitaph()
                self.close()
        return Decoded(digest, None, Reason.DECODER_CRASHED, f"{detail} ({ATTEMPTS} attempts)")

    def close(self) -> None:
        """End the child process."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._connection = None

    def _answer(self, connection: Connection, digest: str | None) -> Decoded:
        reason, detail = cast("tuple[str | None, str]", self._receive(connection))
        if reason is not None:
            return Decoded(digest, None, Reason(reason), detail)
        return Decoded(digest, np.frombuffer(connection.recv_bytes(), dtype=np.float32))

    def _receive(self, connection: Connection) -> object:
        if not connection.poll(self._timeout_s):
            raise TimeoutError(f"gave no answer within {self._timeout_s:g} s")
        return connection.recv()

    def _epitaph(self) -> str:
        code = self._child.wait() if self._child is not None else 0
        return f"the decoder died (exit code {code})"

    def _connected(self) -> Connection:
        if self._connection is None:
            ours, theirs = socket.socketpair()
            root = str(Path(__file__).parents[2])
            path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
            with theirs:
                self._child = subprocess.Popen(
                    [sys.executable, "-m", "pipelines.stages.decoder", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": path},
                )
            self._connection = Connection(ours.detach())
        return self._connection


def serve(connection: Connection) -> None:
    """Answer requests until the other side goes away."""
    while True:
        try:
            uri, settings = connection.recv()
        except (EOFError, OSError):
            return
        digest, samples, reason, detail = _decode(uri, settings, connection)
        if digest is None:
            connection.send(None)
        connection.send((reason, detail))
        if samples is not None:
            connection.send_bytes(np.ascontiguousarray(samples).view(np.uint8).data)


def _decode(
    uri: str, settings: DecodeSettings, connection: Connection
) -> tuple[str | None, Samples | None, str | None, str]:
    digest = None
    try:
        with files.open_file(uri) as opened:
            file = _seekable(uri, opened)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            # Sent before decoding: the row of a file that kills the decoder still says which bytes it was.
            connection.send(digest)
            decoded = audio.decode(file, settings.sample_rate, settings.limits)
            return digest, audio.level(decoded.samples, settings.loudness, settings.target_dbfs), None, ""
    except AudioError as error:
        return digest, None, error.reason.value, str(error)
    except OSError as error:
        return digest, None, Reason.UNREADABLE.value, f"cannot be read: {error.strerror or error}"
    except MemoryError:
        return digest, None, Reason.TOO_LONG.value, "does not fit in memory"


def _seekable(uri: str, opened: BinaryIO) -> Any:
    """Remote files are fetched once, whole: decoders seek back and forth."""
    return opened if files.local_path(uri) is not None else io.BytesIO(opened.read())


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
