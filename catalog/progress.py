"""Progress of long work, drawn alike in every job: `[####......] 40 %  words  3 min 20 s left`.

One line that is rewritten on a terminal and in a notebook; elsewhere (files, `ray job logs`) a line now and then, less
often as the work goes on. Standard library only.
"""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from catalog.outward import printable, without_secrets

_WIDTH = 20
_REFRESH_S = 0.1
_FIRST_LINE_S, _LONGEST_PAUSE_S, _SLOWER = 10.0, 120.0, 1.5


class Bar:
    """The line of one job. `share` is what is done, from 0 to 1, None while nobody knows."""

    def __init__(
        self,
        stream: TextIO | None = None,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` defaults to standard error; by default `live` follows from the stream."""
        self._stream = sys.stderr if stream is None else stream
        self.live = is_live(self._stream) if live is None else live
        self._clock = clock
        self._started = clock()
        self._first: tuple[float, float] | None = None
        self._pause_s = _REFRESH_S if self.live else _FIRST_LINE_S
        self._due = self._started + (0.0 if self.live else self._pause_s)
        self._shown = 0

    def show(self, share: float | None, words: str, *, last: bool = False) -> None:
        """Show the state if it is time; the `last` one is always shown on a live line."""
        now = self._clock()
        left = self._left(share, now)
        if now < self._due and not (last and self.live):
            return
        if not self.live:
            self._pause_s = min(_LONGEST_PAUSE_S, _SLOWER * self._pause_s)
        self._due = now + self._pause_s
        percent = "" if share is None else f"{math.floor(100 * share)} %"
        text = "  ".join(part for part in (percent, _one_line(words), left) if part)
        if not self.live:
            self._write(f"{text}\n")
            return
        full = 0 if share is None else round(_WIDTH * share)
        self._rewrite(f"[{'#' * full}{'.' * (_WIDTH - full)}] {text}")

    def say(self, line: str) -> None:
        """One line above the bar."""
        self._rewrite("")
        self._write(f"{_one_line(line)}\n")

    def close(self) -> None:
        """Leave the last state on a line of its own."""
        if self._shown:
            self._write("\n")
            self._shown = 0

    def _left(self, share: float | None, now: float) -> str:
        """Time left at the speed since the first state, which may be a continued job's."""
        if share is None:
            return ""
        if self._first is None:
            self._first = (share, now)
        gained = share - self._first[0]
        if gained <= 0 or share >= 1:
            return ""
        left_s = (now - self._first[1]) / gained * (1 - share)
        return f"{duration(left_s)} left"

    def _rewrite(self, text: str) -> None:
        """Put `text` over the line; spaces rather than a control sequence, which notebooks would print."""
        if not self.live:
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        if text or self._shown:
            self._write(f"\r{text}{' ' * (self._shown - len(text))}" + ("" if text else "\r"))
        self._shown = len(text)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def is_live(stream: TextIO) -> bool:
    """True if a line that is written to the stream can be rewritten: a terminal's, or a notebook's."""
    return stream.isatty() or type(stream).__module__.partition(".")[0] == "ipykernel"


def duration(seconds: float) -> str:
    """`3 h 20 min`, `3 min 20 s`, `20 s`."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _one_line(text: str) -> str:
    return printable(without_secrets(text))
