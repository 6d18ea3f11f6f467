"""Schedules are bounded and monotonous where they should be; clipping is exact; Muon gets the matrices of stacks."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.maskgct.example import t2s
from models.maskgct.t2s import MaskGCTT2S
from trainers.loop_config import LoopConfig
from trainers.optim import OptimConfig, PhaseOptimizer, lr_factor, scale_gradients, stack_matrices


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
    slow, fast = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(1))
    groups = [{"params": [slow], "lr_scale": 0.1}, {"params": [fast]}]
    optimizer = PhaseOptimizer(groups, OptimConfig(), [slow])
    optimizer.step(0.5)
    assert [group["lr"] for part in optimizer.parts for group in part.param_groups] == [0.05, 0.5]

    optimizer = PhaseOptimizer(groups, OptimConfig(kind="muon", muon_lr_scale=2.0), [slow])
    optimizer.step(0.5)
    assert optimizer.muon is not None
    assert optimizer.muon.param_groups[0]["lr"] == 0.1
    assert optimizer.adamw.param_groups[1]["lr"] == 0.5


def test_settings_reach_both_optimisers() -> None:
    matrix, bias = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    config = OptimConfig(
        kind="muon", lr=0.3, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.02, muon_momentum=0.7
    )
    optimizer = PhaseOptimizer([{"params": [matrix, bias]}], config, [matrix])
    assert optimizer.muon is not None
    (adamw,), (muon,) = (part.param_groups for part in optimizer.parts)
    assert (adamw["lr"], adamw["betas"], adamw["eps"], adamw["weight_decay"]) == (0.3, (0.5, 0.6), 1e-3, 0.02)
    assert (muon["lr"], muon["momentum"], muon["weight_decay"]) == (0.3, 0.7, 0.02)
    matrix.grad, bias.grad = torch.ones(2, 2), torch.ones(2)
    optimizer.zero_grad()
    assert (matrix.grad, bias.grad) == (None, None)


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_a_saved_state_goes_on_as_if_nothing_had_been(kind) -> None:
    def made() -> tuple[list[torch.nn.Parameter], PhaseOptimizer]:
        parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(2))]
        config = OptimConfig(kind=kind, weight_decay=0.1)
        return parameters, PhaseOptimizer([{"params": parameters}], config, parameters[:1])

    def go(parameters: list[torch.nn.Parameter], optimizer: PhaseOptimizer, steps: list[int]) -> None:
        for step in steps:
            generator = torch.Generator().manual_seed(step)
            for parameter in parameters:
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimizer.step(0.1)

    (straight, whole), (stopped, before), (resumed, after) = made(), made(), made()
    go(straight, whole, [0, 1, 2, 3])
    go(stopped, before, [0, 1])
    after.load_state_dict(before.state_dict())
    for parameter, value in zip(resumed, stopped, strict=True):
        parameter.data.copy_(value.data)
    go(resumed, after, [2, 3])
    for one, other in zip(straight, resumed, strict=True):
        assert torch.equal(one, other)


def test_without_gradients_the_norm_is_0() -> None:
    assert float(scale_gradients([torch.nn.Parameter(torch.ones(2))], torch.tensor(2.0), 1.0)) == 0


def test_bounds_themselves_are_taken() -> None:
    least = OptimConfig(betas=(0.0, 0.0), weight_decay=0, warmup_steps=0, clip_norm=0, muon_momentum=0.0)
    assert (least.betas, least.clip_norm) == ((0.0, 0.0), 0)
    assert {OptimConfig(final_lr_ratio=ratio).final_lr_ratio for ratio in (0.0, 1.0)} == {0.0, 1.0}
    assert OptimConfig(warmup_steps=4, decay_steps=5, eps=0.5, lr=0.5, muon_lr_scale=0.5).decay_steps == 5


def test_a_cosine_is_half_way_down_in_the_middle() -> None:
    config = OptimConfig(schedule="cosine", final_lr_ratio=0.2)
    assert lr_factor(config, 10, 0.5) == pytest.approx(0.6)
    assert lr_factor(config, 10, 0.25) == pytest.approx(0.2 + 0.8 * (0.5 + 0.5 * 0.5**0.5))
    assert lr_factor(OptimConfig(schedule="linear", final_lr_ratio=0.2), 10, 0.25) == pytest.approx(0.8)


def test_muon_takes_the_matrices_of_layers_and_nothing_else() -> None:
    network = MaskGCTT2S(t2s().config)
    names = {id(p): name for name, p in network.named_parameters()}
    matrices = stack_matrices([network])
    taken = {names[id(p)] for p in matrices}
    assert all(p.ndim == 2 for p in matrices)
    assert len(taken) == len(matrices)
    assert taken == {name for name, p in network.named_parameters() if ".blocks." in name and p.ndim == 2}
    rest = names.keys() - {id(p) for p in matrices}
    assert {"code_table.weight", "head.weight"} <= {names[one] for one in rest}

    groups = [{"params": list(network.parameters())}]
    optimizer = PhaseOptimizer(groups, OptimConfig(kind="muon"), matrices)
    assert optimizer.muon is not None
    held = [{id(p) for group in part.param_groups for p in group["params"]} for part in optimizer.parts]
    assert held == [set(rest), {id(p) for p in matrices}]
    assert PhaseOptimizer(groups, OptimConfig(), matrices).muon is None


def test_an_update_of_muon_is_orthogonal() -> None:
    """Whatever the gradient, all singular values of the update are about equal, and about as large as AdamW's."""
    matrix = torch.nn.Parameter(torch.zeros(16, 8))
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(size, 8, generator=generator))[0] for size in (16, 8))
    matrix.grad = left @ torch.diag(torch.linspace(0.2, 1, 8)) @ right
    PhaseOptimizer([{"params": [matrix]}], OptimConfig(kind="muon"), [matrix]).step(1.0)
    values = torch.linalg.svdvals(matrix.detach()) / (0.2 * 16**0.5)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_muon_is_refused_where_it_cannot_work() -> None:
    bias = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"optim\.kind is 'muon': the network has no linear layers within a stack"
    ):
        PhaseOptimizer([{"params": [bias]}], OptimConfig(kind="muon"), [])
    with pytest.raises(
        ValueError, match=r"optim\.kind is 'muon' and sharding 'fsdp': Muon needs whole matrices"
    ):
        LoopConfig(max_steps=1, sharding="fsdp", phase_optim={"generator": OptimConfig(kind="muon")})


def test_the_identity_of_adamw_is_what_it_was_before_muon() -> None:
    plain = OptimConfig().identity()
    assert plain.keys().isdisjoint({"kind", "muon_momentum", "muon_lr_scale"})
    assert OptimConfig(kind="muon").identity().items() - {("muon_momentum", 0.95)} >= {("kind", "muon")}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0}, "lr is 0: must be above 0"),
        ({"kind": "adam"}, "kind is 'adam': must be 'adamw' or 'muon'"),
        ({"muon_momentum": 1.0}, r"muon_momentum is 1\.0: must be in"),
        ({"muon_lr_scale": 0}, "muon_lr_scale is 0: must be above 0"),
        ({"eps": 0}, "eps is 0: must be above 0"),
        ({"weight_decay": -1}, "weight_decay is -1: must not be negative"),
        ({"warmup_steps": -1}, "warmup_steps is -1: must not be negative"),
        ({"clip_norm": -0.5}, r"clip_norm is -0\.5: must not be negative"),
        ({"final_lr_ratio": -0.5}, r"final_lr_ratio is -0\.5"),
        ({"muon_momentum": -0.5}, r"muon_momentum is -0\.5"),
        ({"betas": (-0.5, 0.9)}, "each must be in"),
        ({"betas": (0.9, 1.0)}, "each must be in"),
        ({"final_lr_ratio": 2}, "final_lr_ratio is 2"),
    ],
)
def test_settings_out_of_bounds_are_refused(values, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimConfig(**values)
