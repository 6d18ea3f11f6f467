"""Validation: the same batches, draws and rows made audible every time."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from trainers.data import Batch, Batches
from trainers.draws import generator_at
from trainers.ema import Ema
from trainers.loop_config import LoopConfig
from trainers.meters import Totals
from trainers.objectives import Objective, Sample
from trainers.parallel import Parallel
from trainers.plan import Position
from trainers.sharding import gathered
from trainers.speech_quality import speech_quality

B = TypeVar("B", bound=Batch)
_LONGEST_HEARD_S = 8


class Validator(Generic[B]):
    """Validates an objective on the first batches of a store."""

    def __init__(
        self, batches: Batches[B], config: LoopConfig, parallel: Parallel, device: torch.device
    ) -> None:
        self.batches, self.config, self.parallel, self.device = batches, config, parallel, device
        self.makes_samples = config.samples > 0

    @torch.no_grad()
    def run(self, objective: Objective[B], ema: Ema | None) -> tuple[dict[str, float], list[Sample]]:
        """Means over all ranks, named `validation_*`, and rank 0's samples, with averaged weights if there are any.

        Where samples are pairs of original and reconstruction, rank 0's means hold their STOI and PESQ-WB too.
        """
        objective.eval()
        with ema.applied(objective) if ema is not None else nullcontext():
            metrics, samples = self._measure(objective), self._samples(objective)
        metrics |= {f"validation_{name}": value for name, value in speech_quality(samples).items()}
        return metrics, samples

    def _measure(self, objective: Objective[B]) -> dict[str, float]:
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

    def _samples(self, objective: Objective[B]) -> list[Sample]:
        if not self.makes_samples:
            return []
        batch = self._heard(objective).to(self.device)
        with gathered(objective):
            if self.parallel.rank:
                return []
            return objective.samples(batch, generator_at(self.config.seed, "samples"))

    def _heard(self, objective: Objective[B]) -> B:
        """The rows made audible: whole ones up to a few seconds, though training may use shorter crops."""
        batches, count = self.batches, self.config.samples
        if batches.config.crop_frames is not None:
            longest = _LONGEST_HEARD_S * objective.data.sample_rate // objective.data.hop_length
            config = replace(batches.config, crop_frames=longest, max_samples=count, crops_per_epoch=count)
            batches = Batches(batches.store, config, batches.seed, batches.collate, batches.needs)
        first, lengths = Position(0, 0), batches.store.lengths
        items = [
            item._replace(frames=min(item.frames, int(lengths[item.row]) - item.start))
            for item in batches.items(first)[:count]
        ]
        return batches.collate(batches.store, items, first)


def autocast(config: LoopConfig, device: torch.device) -> torch.autocast:
    """The precision of the networks."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
