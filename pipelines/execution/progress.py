"""Progress of a job over recordings: counts what was written, and shows it as `catalog.progress` does."""

from __future__ import annotations

import time
from collections import Counter
from types import TracebackType

from catalog.progress import Bar
from pipelines.stages.write import Written

_EXAMPLES = 5


class Progress:
    """Counts what was written and shows it. `total` is the number of recordings to do, None while nobody knows."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.recordings = 0
        self.seconds = 0.0
        self.rejected: Counter[str] = Counter()
        self._started = time.monotonic()
        self._shown: Counter[str] = Counter()
        self._bar = Bar()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def say(self, line: str) -> None:
        """One line above the bar."""
        self._bar.say(line)

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
        share = min(1.0, self.recordings / self.total) if self.total else None
        of = "" if self.total is None else f" of {self.total}"
        self._bar.show(share, f"{self.recordings}{of} recordings, {self._status()}", last=share == 1.0)

    def _status(self) -> str:
        wall_s = time.monotonic() - self._started
        speed = self.seconds / wall_s if wall_s > 0 else 0.0
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.rejected.items()))
        return f"{self.seconds / 3600:.2f} h, {speed:.1f}x real time" + (
            f", rejected: {reasons}" if reasons else ""
        )
