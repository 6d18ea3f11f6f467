"""Solvers of an ordinary differential equation from time 0 to 1, over a velocity function."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from models.layers.checks import check_choice, check_steps

VelocityFn = Callable[[Tensor, float], Tensor]
"""(state, time in [0, 1]) -> velocity of the state's shape."""

AfterStep = Callable[[Tensor, float], Tensor]
"""(state, time at which it is) -> the state to go on with."""

Method = Literal["euler", "midpoint"]
Grid = Literal["uniform", "sway", "epss", "published"]

PUBLISHED_STEPS = 16
"""SpeechGPT-Gen-Perceptual-Model passes its solver a step size of 0.0625, so the number of steps has no effect."""

EPSS = {
    5: (0, 2, 4, 8, 16, 32),
    6: (0, 2, 4, 6, 8, 16, 32),
    7: (0, 2, 4, 6, 8, 16, 24, 32),
    10: (0, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32),
    12: (0, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32),
    16: (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32),
}
"""Empirically pruned step sampling of Fast F5-TTS (arXiv 2505.19931): times in multiples of 1/32 by number of steps."""


@dataclass(frozen=True)
class FlowSteps:
    """The solver's time grid, and its method from one time to the next."""

    steps: int = 8
    method: Method = "midpoint"
    """`euler` evaluates the velocity once per step, `midpoint` twice."""
    grid: Grid = "uniform"
    """`sway`: denser at the start; `epss`: pruned by experience; `published`: 16 steps whatever `steps` is."""
    sway: float = -1.0
    """Coefficient of `sway` (F5-TTS, arXiv 2410.06885); 0 is uniform, above 0 denser at the end."""

    def __post_init__(self) -> None:
        check_choice(self, "method", get_args(Method))
        check_choice(self, "grid", get_args(Grid))
        check_steps("steps", self.steps)
        if self.grid == "epss" and self.steps not in EPSS:
            known = ", ".join(map(str, EPSS))
            raise ValueError(f"steps is {self.steps}; the grid epss has {known}")
        # Outside of this the times would run backwards.
        if not -1 <= self.sway <= 2 / (math.pi - 2):
            raise ValueError(f"sway is {self.sway}; it must be between -1 and {2 / (math.pi - 2):.2f}")

    def times(self) -> list[float]:
        """The stops, from 0 to 1 in growing order: one more than there are steps."""
        if self.grid == "epss":
            return [tick / 32 for tick in EPSS[self.steps]]
        steps = PUBLISHED_STEPS if self.grid == "published" else self.steps
        times = [step / steps for step in range(steps + 1)]
        if self.grid != "sway":
            return times
        swayed = [time + self.sway * (math.cos(math.pi / 2 * time) - 1 + time) for time in times]
        return [0.0, *swayed[1:-1], 1.0]


@dataclass(frozen=True)
class Solution:
    """The state at time 1 and how often the velocity was evaluated."""

    state: Tensor
    evaluations: int


def solve(
    velocity_fn: VelocityFn,
    state: Tensor,
    times: Sequence[float],
    method: Method,
    after_step: AfterStep | None = None,
) -> Solution:
    """Follow the velocity from `times[0]` to `times[-1]`; `after_step` may change the state at every stop."""
    evaluations = 0
    for time, following in itertools.pairwise(times):
        length = following - time
        velocity = velocity_fn(state, time)
        if method == "midpoint":
            velocity = velocity_fn(state + length / 2 * velocity, time + length / 2)
        state = state + length * velocity
        evaluations += 2 if method == "midpoint" else 1
        if after_step is not None:
            state = after_step(state, following)
    return Solution(state, evaluations)
