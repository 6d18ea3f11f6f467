"""The average of the weights: its direction, its early decay, and what it goes back to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from trainers.ema import Ema
from trainers.objectives import DataInfo, Objective


class One(Objective):  # type: ignore[type-arg]
    """One weight."""

    def __init__(self) -> None:
        super().__init__(DataInfo("toy@1", 16000, 320, 1, 16, 1.0))
        self.weight = nn.Parameter(torch.zeros(1))


def averages(decay: float, values: list[float]) -> list[float]:
    objective = One()
    ema, found = Ema(objective, decay), []
    for value in values:
        with torch.no_grad():
            objective.weight.fill_(value)
        ema.update(objective)
        found.append(float(ema.weights["weight"]))
    return found


@pytest.mark.parametrize("decay", [0.9, 0.999, 0.05])
def test_the_average_moves_by_its_rule(decay: float) -> None:
    values = [1.0, 3.0, -2.0, 5.0, 0.5]
    expected, average = [], 0.0
    for number, value in enumerate(values):
        kept = min(decay, (1 + number) / (10 + number))
        average = kept * average + (1 - kept) * value
        expected.append(average)
    assert averages(decay, values) == pytest.approx(expected, rel=1e-6)


def test_first_weights_do_not_linger_and_late_ones_hardly_move_it() -> None:
    first, *_, before, last = averages(0.99, [1.0] * 2000 + [100.0])
    assert first == pytest.approx(0.9)
    assert before == pytest.approx(1.0, abs=1e-3)
    assert last == pytest.approx(before + 0.01 * 99, abs=1e-3)


class Two(One):
    """Two phases; the second's weight makes no sound."""

    phases = ("generator", "discriminator")

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Parameter(torch.ones(1))

    def parameter_groups(self, phase: str) -> list[dict[str, list[nn.Parameter]]]:
        return [{"params": [{"generator": self.weight, "discriminator": self.judge}[phase]]}]


def test_only_what_makes_sound_is_averaged() -> None:
    objective = Two()
    ema = Ema(objective, 0.5)
    assert set(ema.weights) == {"weight", "updates"}
    with torch.no_grad():
        objective.weight.fill_(4.0)
        objective.judge.fill_(7.0)
    ema.update(objective)
    with ema.applied(objective):
        assert (float(objective.weight.detach()), float(objective.judge.detach())) == (
            pytest.approx(3.6),
            7.0,
        )
    assert float(objective.judge.detach()) == 7.0


def test_updates_are_counted_beyond_what_a_float_counts() -> None:
    objective = One()
    ema = Ema(objective, 0.5)
    ema.weights["updates"] += 2**24
    ema.update(objective)
    assert int(ema.weights["updates"]) == 2**24 + 1


def test_weights_come_back() -> None:
    objective = One()
    ema = Ema(objective, 0.5)
    with torch.no_grad():
        objective.weight.fill_(4.0)
    with ema.applied(objective):
        assert float(objective.weight.detach()) == 0.0
    assert float(objective.weight.detach()) == 4.0


def test_it_continues_from_saved_averages() -> None:
    objective = One()
    ema = Ema(objective, 0.99)
    ema.restore({"weight": torch.tensor([2.0]), "updates": torch.tensor(9)})
    assert int(ema.weights["updates"]) == 9
    ema.update(objective)
    kept = (1 + 9) / (10 + 9)
    assert float(ema.weights["weight"]) == pytest.approx(kept * 2.0)
