"""The line of long work: rewritten where it can be, a line now and then elsewhere."""

from __future__ import annotations

import io
import itertools
import types

import pytest

from catalog.progress import Bar, duration, is_live


class Clock:
    """Time as the test says it."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def shown(text: str) -> str:
    """The last line as a terminal shows it."""
    line: list[str] = []
    at = 0
    for char in text.rsplit("\n", 1)[-1]:
        if char == "\r":
            at = 0
            continue
        line[at:] = [char, *line[at + 1 :]]
        at += 1
    return "".join(line).rstrip()


def test_a_live_line_is_rewritten_and_lines_stand_above_it(clock: Clock) -> None:
    stream = io.StringIO()
    bar = Bar(stream, live=True, clock=clock)
    bar.show(0.0, "0 of 10 recordings and more")
    assert shown(stream.getvalue()) == "[....................] 0 %  0 of 10 recordings and more"
    clock.now_s = 60
    bar.show(0.25, "step 5")
    assert shown(stream.getvalue()) == "[#####...............] 25 %  step 5  3 min 0 s left"
    bar.say("rejected one: https://user:secret@host/x \x1b[31m")
    assert stream.getvalue().splitlines()[-1] == r"rejected one: https://host/x \x1b[31m"
    assert shown(stream.getvalue()) == ""
    clock.now_s = 60.01
    bar.show(0.3, "too early")
    assert "too early" not in stream.getvalue()
    bar.show(1.0, "done", last=True)
    bar.close()
    bar.close()
    assert stream.getvalue().endswith("[####################] 100 %  done\n")
    assert "\x1b" not in stream.getvalue()


def test_a_narrow_terminal_gets_one_row(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream = io.StringIO()
    Bar(stream, live=True, clock=clock).show(0.5, "words " * 30)
    assert len(shown(stream.getvalue())) == 39


def test_elsewhere_lines_come_less_and_less_often(clock: Clock) -> None:
    stream = io.StringIO()
    bar = Bar(stream, clock=clock)
    for second in range(1000):
        clock.now_s = second
        bar.show(None, f"{second} s")
    seconds = [int(line.split()[0]) for line in stream.getvalue().splitlines()]
    pauses = [after - before for before, after in itertools.pairwise(seconds)]
    assert seconds[0] == 10
    assert pauses == sorted(pauses)
    assert pauses[-1] == 120
    bar.say("a line")
    bar.close()
    assert stream.getvalue().endswith("\na line\n")
    assert "\r" not in stream.getvalue()


def test_a_continued_job_counts_from_where_it_began(clock: Clock) -> None:
    stream = io.StringIO()
    bar = Bar(stream, live=True, clock=clock)
    clock.now_s = 50  # until then it found out what was done
    bar.show(0.5, "")
    clock.now_s = 150
    bar.show(0.75, "")
    assert shown(stream.getvalue()).endswith("75 %  1 min 40 s left")


def test_a_notebook_can_rewrite_a_line() -> None:
    module = types.ModuleType("ipykernel.iostream")
    stream_type = type("OutStream", (io.StringIO,), {"__module__": module.__name__})
    assert is_live(stream_type())
    assert not is_live(io.StringIO())


@pytest.mark.parametrize(("seconds", "said"), [(59.9, "59 s"), (200, "3 min 20 s"), (12000, "3 h 20 min")])
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
