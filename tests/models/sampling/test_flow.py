"""The solvers on an equation with a known solution; the time grids; guidance of velocities."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.masks import length_mask
from models.sampling.flow import EPSS, FlowSteps, solve
from models.sampling.guidance import VelocityGuidance, VelocityGuide

START = torch.tensor([0.3, -1.2], dtype=torch.float64)


def spiral(state, time):
    """x' = (a(t) J) x with a(t) = 2 + 6 t^2: a rotation by 2 t + 2 t^3."""
    return (2 + 6 * time**2) * torch.stack([-state[1], state[0]])


def error(steps):
    angle = 4.0
    cosine, sine = math.cos(angle), math.sin(angle)
    end = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64) @ START
    return float((solve(spiral, START, steps.times(), steps.method).state - end).norm())


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2)])
@pytest.mark.parametrize("grid", ["uniform", "sway"])
def test_halving_the_steps_shrinks_the_error_by_the_order(method, order, grid):
    errors = [error(FlowSteps(n, method, grid, sway=-0.5)) for n in (256, 512, 1024)]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@given(
    st.integers(1, 40),
    st.sampled_from(["euler", "midpoint"]),
    st.sampled_from(["uniform", "sway", "published"]),
)
@settings(deadline=None)
def test_evaluations_are_what_the_steps_say(n_steps, method, grid):
    steps, seen = FlowSteps(n_steps, method, grid), []

    def velocity(state, time):
        seen.append(time)
        return torch.ones_like(state)

    solution = solve(velocity, START, steps.times(), method)
    n_intervals = 16 if grid == "published" else n_steps
    assert solution.evaluations == len(seen) == n_intervals * (2 if method == "midpoint" else 1)
    assert seen == sorted(seen)
    assert 0 <= seen[0] <= seen[-1] < 1
    torch.testing.assert_close(solution.state, START + 1)


@given(st.integers(1, 40), st.floats(-1, 1.75))
@settings(deadline=None)
def test_times_grow_from_zero_to_one(n_steps, sway):
    times = FlowSteps(n_steps, grid="sway", sway=sway).times()
    assert (times[0], times[-1], len(times)) == (0, 1, n_steps + 1)
    assert times == sorted(times)


def test_sway_moves_the_steps():
    early, late = (FlowSteps(8, grid="sway", sway=sway).times()[4] for sway in (-1, 1))
    assert early < 0.5 < late
    assert FlowSteps(8, grid="sway", sway=0).times() == FlowSteps(8).times()


@pytest.mark.parametrize("n_steps", EPSS)
def test_pruned_grids_have_their_steps(n_steps):
    times = FlowSteps(n_steps, "euler", "epss").times()
    assert len(times) == n_steps + 1
    assert times == sorted(set(times))
    assert (times[0], times[-1]) == (0, 1)


def test_every_stop_may_change_the_state():
    stops = []

    def reset(state, time):
        stops.append(time)
        return torch.full_like(state, time)

    solution = solve(lambda state, _time: state, START, [0, 0.25, 1], "euler", reset)
    assert stops == [0.25, 1]
    assert torch.equal(solution.state, torch.ones_like(START))


def guide(guidance, rows=slice(None), calls=1):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([6, 3])
    mask = length_mask(lengths, 6)[rows]
    guided, guiding = None, VelocityGuide(guidance, mask)
    for call in range(calls):
        given, free, state = (torch.randn(2, 6, 4, generator=generator)[rows] for _ in range(3))
        guided = guiding(given, free, state, call / 4)
    return given, free, state, mask, guided


def test_plain_guidance_goes_away_from_the_unconditional_velocity():
    given, free, _state, _mask, guided = guide(VelocityGuidance(1.5))
    torch.testing.assert_close(guided, given + 1.5 * (given - free))


def test_projected_guidance_leaves_the_length_of_the_prediction():
    given, _free, state, mask, guided = guide(VelocityGuidance(1.5, parallel=0.0))
    prediction = (state + given) * mask[..., None]
    change = (guided - given) * mask[..., None]
    assert change.norm() > 1
    torch.testing.assert_close((change * prediction).sum((1, 2)), torch.zeros(2), rtol=0, atol=1e-4)


def test_a_share_along_the_prediction_of_the_end_is_kept():
    guiding = VelocityGuide(VelocityGuidance(2.0, parallel=0.25), torch.ones(1, 1, dtype=torch.bool))
    given, free, state = (torch.tensor([[values]]) for values in ([4.0, 0.0], [0.0, -8.0], [0.0, 1.0]))
    # At time 0.75 the end is predicted at (0, 1) + (4, 0) / 4 = (1, 1).
    guided = guiding(given, free, state, 0.75)
    # The difference (4, 8) / 4 keeps a quarter of its part along (1, 1), which is 1.5 (1, 1): (-0.125, 0.875).
    torch.testing.assert_close(guided, given + 2.0 * torch.tensor([[[-0.125, 0.875]]]) * 4)


def test_a_bound_holds_for_each_row():
    given, _free, _state, mask, guided = guide(VelocityGuidance(2.0, max_rms=0.1))
    for row in range(2):
        change = (guided - given)[row, mask[row]]
        torch.testing.assert_close(change.square().mean().sqrt(), torch.tensor(0.2))
    loose = guide(VelocityGuidance(2.0, max_rms=100.0))[-1]
    torch.testing.assert_close(loose, guide(VelocityGuidance(2.0))[-1])


def test_momentum_adds_what_was_seen_before():
    first = VelocityGuidance(1.0, momentum=-0.5)
    assert torch.equal(guide(first)[-1], guide(VelocityGuidance(1.0))[-1])
    given, free, _state, _mask, guided = guide(first, calls=2)
    before = guide(VelocityGuidance(1.0))
    expected = (given - free) * 0.75 - 0.5 * (before[0] - before[1])
    torch.testing.assert_close(guided, given + expected / 0.75)


def test_guiding_a_row_does_not_depend_on_the_others():
    guidance = VelocityGuidance(1.5, parallel=0.3, momentum=-0.2, max_rms=0.5)
    together = guide(guidance, calls=3)[-1]
    for row in range(2):
        torch.testing.assert_close(guide(guidance, slice(row, row + 1), calls=3)[-1][0], together[row])


def test_guidance_acts_in_its_interval():
    guidance = VelocityGuidance(1.0, start=0.25, stop=0.5)
    assert [guidance.acts_at(time) for time in (0.0, 0.25, 0.5, 0.75)] == [False, True, True, False]
    assert not VelocityGuidance(0.0).acts_at(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowSteps(0), "steps is 0; it must be at least 1"),
        (lambda: FlowSteps(8, "heun"), "method is 'heun'; it must be one of euler, midpoint"),
        (lambda: FlowSteps(8, grid="epss"), "steps is 8; the grid epss has 5, 6, 7, 10, 12, 16"),
        (lambda: FlowSteps(8, grid="sway", sway=2), "sway is 2; it must be between -1 and 1.75"),
        (lambda: FlowSteps(8, grid="sway", sway=-1.5), "sway is -1.5; it must be between -1 and 1.75"),
        (lambda: VelocityGuidance(-1), "guidance scale is -1; it must not be negative"),
        (
            lambda: VelocityGuidance(1, start=0.5, stop=0.2),
            "acts from 0.5 to 0.2; it must be a part of 0 to 1",
        ),
        (lambda: VelocityGuidance(1, stop=1.5), "acts from 0.0 to 1.5; it must be a part of 0 to 1"),
        (lambda: VelocityGuidance(1, parallel=2), "parallel is 2; it must be between 0 and 1"),
        (lambda: VelocityGuidance(1, momentum=1), "momentum is 1; it must be between -1 and 1"),
        (lambda: VelocityGuidance(1, momentum=-1), "momentum is -1; it must be between -1 and 1"),
        (lambda: VelocityGuidance(1, max_rms=-1), "max_rms is -1; it must not be negative"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
