"""Commands to a running training: `quit`, `save`, `eval`, `lr X`, typed at its terminal or sent to its folder."""

from __future__ import annotations

import fcntl
import math
import os
import select
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from catalog.command import JobError, UsageError
from trainers.loop_config import Wishes

WORDS = ("quit", "save", "eval", "lr")
FILE = "commands"


def understood(line: str) -> Wishes:
    """The wish of one line. ValueError names an unknown word or a wrong number."""
    word, *rest = line.split()
    if word == "lr":
        try:
            (lr,) = map(float, rest)
        except ValueError:
            raise ValueError(f"{line.strip()!r}: lr needs one number, for example lr 1e-4") from None
        if not 0 < lr < math.inf:
            raise ValueError(f"{line.strip()!r}: the learning rate must be above 0")
        return Wishes(lr=lr)
    if word not in WORDS or rest:
        raise ValueError(f"unknown command {line.strip()!r}; known: quit, save, eval, lr X")
    return Wishes(quit=word == "quit", save=word == "save", evaluate=word == "eval")


class Commands:
    """Reads commands without waiting for any: those sent to a run directory, and the lines of a terminal."""

    def __init__(self, directory: Path, tell: Callable[[str], None], terminal: TextIO | None = None) -> None:
        """`tell` gets one line for each command. A `terminal` that is none, such as a pipe, is left alone."""
        self._path, self._tell = directory / FILE, tell
        self._terminal = terminal if terminal is not None and _is_terminal(terminal) else None

    def __call__(self) -> Wishes:
        """All that came since the last call; the last learning rate counts."""
        found = Wishes()
        for line in (*self._sent(), *self._typed()):
            try:
                wish = understood(line)
            except ValueError as error:
                self._tell(str(error))
                continue
            self._tell(f"command: {line.strip()}")
            found = replace(
                found,
                quit=found.quit or wish.quit,
                save=found.save or wish.save,
                evaluate=found.evaluate or wish.evaluate,
                lr=wish.lr or found.lr,
            )
        return found

    def _sent(self) -> list[str]:
        try:
            if not self._path.stat().st_size:
                return []
            with self._path.open("r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                lines = [line for line in file if line.strip()]
                file.truncate(0)
        except FileNotFoundError:
            return []
        return lines

    def _typed(self) -> Iterator[str]:
        while self._terminal is not None and _in_front(self._terminal):
            if not select.select([self._terminal], [], [], 0)[0]:
                return
            try:
                # A terminal gives one line a read.
                line = os.read(self._terminal.fileno(), 4096).decode(errors="replace")
            except OSError:
                line = ""
            if not line:
                self._terminal = None
            elif line.strip():
                yield line


def send(directory: Path, words: str) -> None:
    """Send a command to the training that runs in `directory`.

    UsageError for a command that there is not; JobError if no training runs there.
    """
    try:
        understood(words)
    except ValueError as error:
        raise UsageError(str(error)) from error
    lock = directory / "lock"
    if not lock.is_file():
        raise JobError(f"{directory} is no run directory: no training ever ran there")
    with lock.open("r") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            raise JobError(f"{directory}: no training is running there")
    with (directory / FILE).open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{words}\n")


def forget(directory: Path) -> None:
    """Drop what was sent to a training that has ended."""
    (directory / FILE).unlink(missing_ok=True)


def of_process(directory: Path, stream: TextIO) -> Commands:
    """Those of the training in this process, reported on `stream`."""
    return Commands(directory, lambda text: _write(stream, text), sys.stdin)


def _write(stream: TextIO, text: str) -> None:
    stream.write(f"{text}\n")
    stream.flush()


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _in_front(terminal: TextIO) -> bool:
    """False in the background of its terminal, where reading would halt the process."""
    try:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:  # a terminal that does not control this process
        return True
