"""An exponential moving average of an objective's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from trainers.objectives import Objective
from trainers.sharding import like, local


class Ema:
    """Averages by parameter name; the effective decay starts low, so that the first weights do not linger."""

    def __init__(self, objective: Objective[Any], decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, Tensor] = {
            name: p.detach().clone() for name, p in averaged(objective).items()
        }
        self.weights["updates"] = torch.zeros((), dtype=torch.int64)

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from saved averages (whole tensors)."""
        self.weights = {name: like(weights[name], value) for name, value in self.weights.items()}

    @torch.no_grad()
    def update(self, objective: Objective[Any]) -> None:
        """Move towards the present weights by 1 - min(decay, (1 + n) / (10 + n)) after n updates."""
        updates = int(self.weights["updates"])
        decay = min(self.decay, (1 + updates) / (10 + updates))
        parameters = averaged(objective)
        averages = [local(self.weights[name]) for name in parameters]
        torch._foreach_lerp_(averages, [local(p.detach()) for p in parameters.values()], 1 - decay)
        self.weights["updates"] += 1

    @contextmanager
    def applied(self, objective: Objective[Any]) -> Iterator[None]:
        """The averages in place of the weights."""
        kept = {name: p.detach().clone() for name, p in averaged(objective).items()}
        load(objective, self.weights)
        try:
            yield
        finally:
            load(objective, kept)


def averaged(objective: Objective[Any]) -> dict[str, Parameter]:
    """Parameters by name that are averaged: the first phase's where there are several, for only those make sound; of
    one phase, those that are trained.
    """
    named = objective.named_parameters()
    if len(objective.phases) == 1:
        return {name: p for name, p in named if p.requires_grad}
    first = {id(p) for group in objective.parameter_groups(objective.phases[0]) for p in group["params"]}
    return {name: p for name, p in named if id(p) in first}


@torch.no_grad()
def load(objective: Objective[Any], weights: Mapping[str, Tensor]) -> None:
    """Copy weights by parameter name into the objective."""
    for name, parameter in averaged(objective).items():
        parameter.copy_(weights[name])
