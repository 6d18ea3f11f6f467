"""Schedules are bounded and monotonous where they should be; clipping is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers.optim import OptimConfig, build_optimizer, lr_factor, scale_gradients, set_lr


@given(
    st.sampled_from(["constant", "linear", "cosine"]),
    st.integers(0, 20),
    st.floats(0, 1),
    st.integers(0, 50),
    st.floats(-0.5, 1.5),
)
def test_factor_stays_between_its_ends(
    schedule, warmup: int, ratio: float, step: int, progress: float
) -> None:
    config = OptimConfig(schedule=schedule, warmup_steps=warmup, final_lr_ratio=ratio)
    factor = lr_factor(config, step, progress)
    if step < warmup:
        assert factor == (step + 1) / warmup
    else:
        assert min(ratio, 1) - 1e-9 <= factor <= 1 + 1e-9
        assert lr_factor(config, step, 1.0) == pytest.approx(1.0 if schedule == "constant" else ratio)


@given(st.sampled_from(["linear", "cosine"]), st.integers(1, 50), st.floats(0, 1))
def test_a_schedule_can_end_before_the_training(schedule, decay_steps: int, ratio: float) -> None:
    config = OptimConfig(schedule=schedule, decay_steps=decay_steps, final_lr_ratio=ratio)
    whole = OptimConfig(schedule=schedule, final_lr_ratio=ratio)
    for step in range(0, 2 * decay_steps, 3):
        assert lr_factor(config, step, 0.0) == lr_factor(whole, step, step / decay_steps)
    assert lr_factor(config, 2 * decay_steps, 0.1) == pytest.approx(ratio)
    with pytest.raises(ValueError, match="decay_steps is 5: must be above warmup_steps, which is 5"):
        OptimConfig(warmup_steps=5, decay_steps=5)


@given(st.floats(0.01, 100), st.floats(0, 10))
def test_gradients_are_scaled_then_clipped(scale: float, clip: float) -> None:
    parameters = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2)), torch.zeros(1)]
    parameters[0].grad, parameters[1].grad = torch.tensor([1.0, 2.0, 2.0]), torch.tensor([0.0, 4.0])
    norm = scale_gradients(parameters, torch.tensor(scale), clip)
    assert float(norm) == pytest.approx(5 * scale, rel=1e-5)
    after = torch.cat([p.grad for p in parameters[:2] if p.grad is not None]).norm()
    expected = 5 * scale if clip == 0 else min(5 * scale, clip)
    assert float(after) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_groups_keep_their_own_scale() -> None:
    slow, fast = torch.nn.Parameter(torch.ones(1)), torch.nn.Parameter(torch.ones(1))
    optimizer = build_optimizer([{"params": [slow], "lr_scale": 0.1}, {"params": [fast]}], OptimConfig())
    set_lr(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr is 0: must be above 0"),
        ({"betas": (0.9, 1.0)}, "each must be in"),
        ({"final_lr_ratio": 2}, "final_lr_ratio is 2"),
    ],
)
def test_settings_out_of_bounds_are_refused(values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**values)
