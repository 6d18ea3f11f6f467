"""Progress of a job over recordings, as a terminal shows it."""

from __future__ import annotations

import io
import sys
import time

import pytest

from pipelines.execution.progress import Progress
from pipelines.stages.write import Written


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def line(self) -> str:
        return self.getvalue().rpartition("\r")[2].rstrip()


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: seconds)


def started(monkeypatch: pytest.MonkeyPatch, total: int | None) -> tuple[Progress, Terminal]:
    """36 seconds ago."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    at(monkeypatch, 100.0)
    progress = Progress()
    progress.total = total
    at(monkeypatch, 136.0)
    return progress, terminal


def test_the_state_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = started(monkeypatch, 8)
    progress.add(Written([], 1, 1800.0, {"silent": 1}, []))
    progress.add(Written([], 1, 3600.0, {"too_short": 2, "silent": 2}, []))
    progress.tick()
    assert terminal.line() == (
        "[#####...............] 25 %  2 of 8 recordings, 1.50 h, 150.0x real time, rejected: 3 silent, 2 too_short"
    )


def test_while_the_number_of_recordings_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = started(monkeypatch, None)
    progress.add(Written([], 3, 36.0, {}, []))
    progress.tick()
    assert terminal.line() == "[....................] 3 recordings, 0.01 h, 1.0x real time"


def test_the_end_is_shown_whenever_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = started(monkeypatch, 2)
    with progress:
        progress.tick()
        progress.add(Written([], 1, 36.0, {}, []))
        progress.tick()
        assert "50 %" not in terminal.getvalue(), "too early for another state"
        progress.add(Written([], 2, 36.0, {}, []))  # one came while they were counted
        progress.tick()
    assert terminal.getvalue().endswith("100 %  3 of 2 recordings, 0.02 h, 2.0x real time\n")
    assert "left" not in terminal.line()


def test_lines_and_examples_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = started(monkeypatch, None)
    progress.say("listing")
    progress.add(Written([], 1, 0.0, {"odd": 1}, ["a.wav"]))
    progress.add(Written([], 1, 0.0, {"odd": 1}, ["b.wav: odd: it is"]))
    assert terminal.getvalue().splitlines() == ["listing", "rejected a.wav", "rejected b.wav: odd: it is"]


def test_five_rejections_of_a_reason_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    progress, terminal = started(monkeypatch, None)
    for index in range(7):
        examples = [f"take {index}.wav: silent: peak is 0", f"take {index}.wav: too_short: 0.1 s"]
        progress.add(Written([], 2, 0.0, {"silent": 1, "too_short": 1}, examples))
    shown = terminal.getvalue().splitlines()
    assert shown == [
        f"rejected take {n}.wav: {why}" for n in range(5) for why in ("silent: peak is 0", "too_short: 0.1 s")
    ]
    at(monkeypatch, 100.0)  # a clock may stand
    assert progress._status().startswith("0.00 h, 0.0x real time, rejected: ")
