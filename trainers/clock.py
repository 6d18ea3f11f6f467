"""The end of a training, by steps, epochs and time, and its progress."""

from __future__ import annotations

import time
from typing import Any

import torch

from trainers.data import Batches
from trainers.loop_config import LoopConfig, Stopped
from trainers.parallel import Parallel
from trainers.plan import Position


class Clock:
    """Rank 0's time, summed over restarts; every rank sees the same."""

    def __init__(self, config: LoopConfig, parallel: Parallel, device: torch.device) -> None:
        self.config, self.parallel, self.device = config, parallel, device
        self.elapsed_s = 0.0
        self._now_s = time.process_time if config.minutes_of == "processor" else time.monotonic
        self._last_s = self._now_s()

    def progress(self, step: int, epoch: float) -> float:
        """Share of the whole training that is done, by the stop rule that is closest."""
        config = self.config
        minutes = self.elapsed_s / 60
        rules = ((step, config.max_steps), (epoch, config.max_epochs), (minutes, config.max_minutes))
        return max((done / limit for done, limit in rules if limit), default=0.0)

    def stopped(self, step: int, position: Position, *, interrupted: bool) -> Stopped | None:
        """The rule that ends the training here, decided by all ranks together."""
        config = self.config
        now_s = self._now_s()
        shared = torch.zeros(2, dtype=torch.float64, device=self.device)
        if self.parallel.rank == 0:
            shared[0] = self.elapsed_s + now_s - self._last_s
        self._last_s = now_s
        shared[1] = float(interrupted)
        self.elapsed_s, signals = self.parallel.sum(shared).tolist()
        if signals:
            return "interrupted"
        if config.max_steps is not None and step >= config.max_steps:
            return "max_steps"
        if config.max_epochs is not None and position.epoch >= config.max_epochs:
            return "max_epochs"
        if config.max_minutes is not None and self.elapsed_s >= config.max_minutes * 60:
            return "max_minutes"
        return None


def epochs_done(batches: Batches[Any], position: Position) -> float:
    """The position as a fractional number of epochs."""
    return position.epoch + position.batch / len(batches.epoch(position.epoch))
