"""Sampling flows: with a network that knows the answer, and rows, prompts and guidance against the slow way."""

import pytest
import torch
from torch import nn

from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.flow_matching.sampling import Conditions, FlowOptions, generate
from models.flow_matching.stages import FlowMatchingOptions
from models.sampling.draws import RowDraws
from models.sampling.flow import FlowSteps, solve
from models.sampling.guidance import VelocityGuidance, VelocityGuide

TINY = {"hidden_size": 12, "n_layers": 2, "n_heads": 2, "feed_forward_size": 16, "conv_kernel_size": 3}
Z, TARGETS, PROMPTS, SEEDS = 5, [7, 11, 4], [6, 0, 3], [1, 2, 3]
EULER = FlowSteps(4, "euler")


def build(hierarchical=False, **settings):
    torch.manual_seed(0)
    sizes = TINY | {"latent_size": Z} | settings
    if hierarchical:
        module = HierarchicalConditionalFlowMatcher(
            HierarchicalFlowMatchingConfig(**sizes, n_semantic_tokens=9)
        )
    else:
        module = ConditionalFlowMatcher(FlowMatchingConfig(**sizes))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return module.eval()


def conditions(rows=slice(None), hierarchical=False):
    generator = torch.Generator().manual_seed(1)
    targets, prompts = TARGETS[rows], PROMPTS[rows]
    prompt = torch.randn(3, 6, Z, generator=generator)[rows, : max(prompts)]
    if hierarchical:
        target_semantic = torch.randint(0, 9, (3, 11), generator=generator)
        prompt_semantic = torch.randint(0, 9, (3, 6), generator=generator)
    else:
        target_semantic = torch.randn(3, 11, Z, generator=generator)
        prompt_semantic = torch.randn(3, 6, Z, generator=generator)
    parts = target_semantic[rows, : max(targets)], prompt_semantic[rows, : max(prompts)]
    return Conditions(parts[0], targets, parts[1], prompt, prompts)


def one(row):
    return slice(row, row + 1)


class Knowing(nn.Module):
    """Knows the latents, and that a straight line leads there; sees to it that the prompt is where it should be."""

    def __init__(self, path_config, latents, prompt_on_path=False):
        super().__init__()
        self.config, self.latents, self.prompt_on_path = path_config, latents, prompt_on_path
        self.head, self.first = nn.Linear(1, 1), None

    def embed_semantic(self, semantic, mask):
        return semantic

    def forward(self, state, times, semantic, prompt, mask):
        time = float(times[0])
        self.first = state if self.first is None else self.first
        given = (prompt != 0).any(-1)
        if self.prompt_on_path:
            path = self.config.path
            torch.testing.assert_close(
                state[given], path.state(self.first, path.end(prompt, semantic), time)[given]
            )
        ends = torch.zeros_like(state)
        for row, (before, length) in enumerate(zip(PROMPTS, TARGETS, strict=True)):
            ends[row, before : before + length] = self.latents[row, :length]
        end = self.config.path.end(ends, semantic)
        return (end - state) / (1 - time)


@pytest.mark.parametrize("path", [{}, {"start_from_cond": False}, {"explicit": True, "concat_cond": True}])
@pytest.mark.parametrize("prompt_state", ["solved", "overwritten"])
def test_a_network_that_knows_the_latents_is_followed(path, prompt_state):
    latents = torch.randn(3, 11, Z)
    network = Knowing(
        FlowMatchingConfig(**TINY, latent_size=Z, **path), latents, prompt_state == "overwritten"
    )
    options = FlowOptions(EULER, prompt_state=prompt_state)
    made = generate(network, conditions(), options, RowDraws(SEEDS, "cpu"))
    assert made.evaluations == 4
    for row, length in enumerate(TARGETS):
        torch.testing.assert_close(made.latents_BTZ[row, :length], latents[row, :length], rtol=0, atol=1e-4)
        assert not made.latents_BTZ[row, length:].any()


OPTIONS = {
    "published": FlowOptions(FlowSteps(grid="published")),
    "epss": FlowOptions(FlowSteps(5, "euler", "epss"), prompt_state="overwritten"),
    "guided": FlowOptions(EULER, VelocityGuidance(1.5, start=0.2, parallel=0.3, momentum=-0.3, max_rms=0.4)),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_row_does_not_depend_on_its_batch(hierarchical, options):
    model = build(hierarchical)
    together = generate(model, conditions(hierarchical=hierarchical), options, RowDraws(SEEDS, "cpu"))
    for row, length in enumerate(TARGETS):
        alone = generate(model, conditions(one(row), hierarchical), options, RowDraws(SEEDS[one(row)], "cpu"))
        assert alone.evaluations == together.evaluations
        torch.testing.assert_close(
            alone.latents_BTZ[0], together.latents_BTZ[row, :length], rtol=1e-3, atol=1e-4
        )


@pytest.mark.parametrize("row", range(3))
def test_guidance_equals_two_separate_calls(row):
    """The slow way: each branch on its own, the unconditional one with the target frames alone."""
    model, guidance, given = (
        build(concat_cond=True),
        VelocityGuidance(2.0, parallel=0.5),
        conditions(one(row)),
    )
    before, length = PROMPTS[row], TARGETS[row]
    semantic = torch.cat([given.prompt_semantic_BP, given.semantic_BT], dim=1)
    prompt = torch.cat([given.prompt_BPZ, torch.zeros(1, length, Z)], dim=1)
    guide = VelocityGuide(guidance, torch.ones(1, length, dtype=torch.bool))

    def velocity(state, time):
        times = torch.tensor([time])
        conditional = model(state, times, semantic, prompt, None)
        target, keep = state[:, before:], torch.tensor([False])
        free = model(target, times, semantic[:, before:], torch.ones_like(target), None, keep)
        guided = guide(conditional[:, before:], free, target, time)
        return torch.cat([conditional[:, :before], guided], dim=1)

    prior = RowDraws([SEEDS[row]], "cpu").normal([before + length], Z) + semantic
    with torch.no_grad():
        slow = solve(velocity, prior, EULER.times(), "euler").state[:, before:]
    fast = generate(model, conditions(), FlowOptions(EULER, guidance), RowDraws(SEEDS, "cpu"))
    assert fast.evaluations == 4
    torch.testing.assert_close(fast.latents_BTZ[row, :length], slow[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("hierarchical", [False, True])
def test_a_network_in_bfloat16_stays_close(hierarchical):
    model, given = build(hierarchical), conditions(hierarchical=hierarchical)
    exact = generate(model, given, OPTIONS["guided"], RowDraws(SEEDS, "cpu")).latents_BTZ
    low = generate(model.bfloat16(), given, OPTIONS["guided"], RowDraws(SEEDS, "cpu")).latents_BTZ
    assert low.dtype == torch.float32
    assert (low - exact).square().mean() < 0.01 * exact.square().mean()


def test_the_prompt_state_and_the_interval_matter():
    model, draws = build(), lambda: RowDraws(SEEDS, "cpu")

    def made(options):
        return generate(model, conditions(), options, draws()).latents_BTZ

    plain = made(FlowOptions(EULER))
    assert not torch.allclose(plain[0], made(FlowOptions(EULER, prompt_state="overwritten"))[0], atol=1e-3)
    early = made(FlowOptions(EULER, VelocityGuidance(2.0, stop=0.5)))
    assert not torch.allclose(plain[0], early[0], atol=1e-3)
    assert not torch.allclose(made(FlowOptions(EULER, VelocityGuidance(2.0)))[0], early[0], atol=1e-3)


def test_unknown_states_of_the_prompt_are_refused():
    with pytest.raises(ValueError, match="prompt_state is 'kept'; it must be one of solved, overwritten"):
        FlowOptions(prompt_state="kept")


def test_systems_evaluate_the_network_eight_times_unless_told_otherwise():
    made = generate(build(), conditions(), FlowMatchingOptions().flow(), RowDraws(SEEDS, "cpu"))
    assert made.evaluations == 8
