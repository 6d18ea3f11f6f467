"""Rows of a format, read in a process of its own: where a file ends its reader, that process ends, not the import.

    python -P -m pipelines.datasets.isolated_reader SOCKET

is that process. It reads ahead by as much as a socket holds.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from catalog.command import JobError, UsageError
from catalog.import_path import import_path
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.formats.interface import Format, Import
from pipelines.rows import Row

_BATCH_BYTES, _BATCH_ROWS = 1 << 20, 256


def read_isolated(format_: str, source: Path, context: Import) -> Iterator[Row]:
    """The rows that `FORMATS[format_]` reads of `source`, in the same order, and what it raises.

    Raises JobError where the reading process ends before its last row.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipelines.datasets.isolated_reader", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
        )
    connection, last = Connection(ours.detach()), "its first row"
    try:
        connection.send((format_, source, context))
        while (rows := connection.recv()) is not None:
            if isinstance(rows, Exception):
                raise rows
            yield from rows
            last = f"the rows after {rows[-1]['id']}"
    except (EOFError, BrokenPipeError, ConnectionResetError) as error:
        ended = child.wait()
        how = signal.Signals(-ended).name if ended < 0 else f"exit code {ended}"
        raise JobError(
            f"{source}: the process that read {last} ended ({how}); nothing was imported"
        ) from error
    finally:
        connection.close()
        child.kill()
        child.wait()


def main(connection: Connection) -> None:
    """Send batches of rows, then None; or the exception that ends the reading."""
    format_, source, context = connection.recv()
    module: Format = import_module(FORMATS[format_])  # type: ignore[assignment]
    batch: list[Row] = []
    size = 0
    try:
        for row in module.read(source, context):
            batch.append(row)
            size += getattr(row.get("codes"), "nbytes", 0)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
                connection.send(batch)
                batch, size = [], 0
        if batch:
            connection.send(batch)
    except (JobError, UsageError) as error:
        connection.send(error)
    except Exception as error:  # noqa: BLE001 - whatever a file makes its reader raise
        connection.send(JobError(f"{source}: {error or type(error).__name__}"))
    else:
        connection.send(None)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the import ends this process
    try:
        main(Connection(int(sys.argv[1])))
    except BrokenPipeError:  # the import has ended
        os._exit(1)
