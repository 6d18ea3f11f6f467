"""The end of a training."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from trainers.clock import Clock
from trainers.loop_config import LoopConfig
from trainers.parallel import Parallel
from trainers.plan import Position


@pytest.mark.parametrize(
    ("minutes_of", "stops"), [("wall", [None, None, "max_minutes"]), ("processor", [None, "max_minutes"])]
)
def test_minutes_are_of_the_wall_or_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, minutes_of: str, stops: list[str | None]
) -> None:
    wall, processor = ticks(20.0), ticks(35.0)
    monkeypatch.setattr(time, "monotonic", lambda: next(wall))
    monkeypatch.setattr(time, "process_time", lambda: next(processor))
    config = LoopConfig(max_minutes=1, minutes_of=minutes_of)  # type: ignore[arg-type]
    clock = Clock(config, Parallel.current(), torch.device("cpu"))
    assert [clock.stopped(0, Position(0, 0), interrupted=False) for _ in stops] == stops
    assert clock.progress(0, 0.0) >= 1


def test_other_minutes_are_refused() -> None:
    with pytest.raises(ValueError, match="minutes_of is 'cpu': must be 'wall' or 'processor'"):
        LoopConfig(max_minutes=1, minutes_of="cpu")  # type: ignore[arg-type]


def ticks(step_s: float) -> Iterator[float]:
    now_s = 1000.0
    while True:
        yield now_s
        now_s += step_s
