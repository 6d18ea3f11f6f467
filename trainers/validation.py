"""Validation: the same batches, draws and rows made audible every time."""

from __future__ import annotations

import torch

from trainers.data import Batches, Position
from trainers.draws import generator_at
from trainers.ema import Ema
from trainers.loop_config import LoopConfig
from trainers.meters import Totals
from trainers.objectives import Objective, Sample
from trainers.parallel import Parallel
from trainers.sharding import gathered


class Validator:
    """Validates an objective on the first batches of a store."""

    def __init__(
        self, batches: Batches, config: LoopConfig, parallel: Parallel, device: torch.device
    ) -> None:
        self.batches, self.config, self.parallel, self.device = batches, config, parallel, device
        self.makes_samples = config.samples > 0

    @torch.no_grad()
    def run(self, objective: Objective, ema: Ema | None) -> tuple[dict[str, float], list[Sample]]:
        """Means over all ranks, named `validation_*`, and rank 0's samples, with averaged weights if there are any."""
        objective.eval()
        if ema is None:
            return self._measure(objective), self._samples(objective)
        with ema.applied(objective):
            return self._measure(objective), self._samples(objective)

    def _measure(self, objective: Objective) -> dict[str, float]:
        totals = Totals(self.device)
        count = min(self.config.validation_batches, len(self.batches.epoch(0)))
        for first in range(0, count, self.parallel.world):
            index = first + self.parallel.rank
            # A rank without a batch computes one all the same: sharded networks need every rank.
            batch = self.batches.load(Position(0, min(index, count - 1))).to(self.device)
            generator = generator_at(self.config.seed, "validation", index)
            with autocast(self.config, self.device):
                loss = objective.validate(batch, generator)
            if index < count:
                totals.add(loss, batch)
        totals.reduce(self.parallel)
        return {f"validation_{name}": value for name, value in totals.means().items()}

    def _samples(self, objective: Objective) -> list[Sample]:
        if not self.makes_samples:
            return []
        batch = self.batches.load(Position(0, 0)).rows(self.config.samples).to(self.device)
        with gathered(objective):
            if self.parallel.rank:
                return []
            return objective.samples(batch, generator_at(self.config.seed, "samples"))


def autocast(config: LoopConfig, device: torch.device) -> torch.autocast:
    """The precision of the networks."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
