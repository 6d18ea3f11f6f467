"""Progress of a job: a live bar on a terminal, a line now and then otherwise. Everything goes to standard error."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from catalog.outward import printable, say, without_secrets
from pipelines.stages.write import Written

if TYPE_CHECKING:
    import rich.progress

_FIRST_LINE_S = 10.0
_LONGEST_PAUSE_S = 120.0
_EXAMPLES = 5


class Progress:
    """Counts what was written and shows it. `total` is the number of recordings to do, None while nobody knows."""

    def __init__(self) -> None:
        self.total: int | None = None
        self._started = time.monotonic()
        self._pause_s = _FIRST_LINE_S
        self._next_line = self._started + self._pause_s
        self.recordings = 0
        self.seconds = 0.0
        self.rejected: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._bar: rich.progress.Progress | None = None
        self._task: rich.progress.TaskID | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar, self._task = _live_bar()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, line: str) -> None:
        """One line above the bar."""
        if self._bar is not None:
            line = printable(without_secrets(line))
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            say(line)

    def add(self, written: Written) -> None:
        """A batch is done; the first rejections of each reason are named."""
        self.recordings += written.recordings
        self.seconds += written.seconds
        self.rejected.update(written.rejected)
        for example in written.examples:
            reason = example.split(": ")[1] if ": " in example else example
            self._shown[reason] += 1
            if self._shown[reason] <= _EXAMPLES:
                self.say(f"rejected {example}")

    def tick(self) -> None:
        """Refresh the bar, or write a line when the last one is long enough ago."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self.total, completed=self.recordings, status=self._status())
            return
        now = time.monotonic()
        if now >= self._next_line:
            of = "" if self.total is None else f" of {self.total}"
            self.say(f"{self.recordings}{of} recordings, {self._status()}")
            self._pause_s = min(_LONGEST_PAUSE_S, 1.5 * self._pause_s)
            self._next_line = now + self._pause_s

    def _status(self) -> str:
        wall_s = time.monotonic() - self._started
        speed = self.seconds / wall_s if wall_s > 0 else 0.0
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
        return f"{self.seconds / 3600:.2f} h, {speed:.1f}x real time" + (
            f", rejected: {reasons}" if reasons else ""
        )


def _live_bar() -> tuple[rich.progress.Progress, rich.progress.TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("recordings"),
        TextColumn("{task.fields[status]}"),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    bar = Bar(*columns, console=Console(stderr=True))
    return bar, bar.add_task("prepare", total=None, status="starting")
