"""Latents from semantic content and a voice prompt: the flow solved from noise, with prompt and guidance.

Shapes: B rows, P prompt frames, T target frames, N positions of both, Z channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from models.flow_matching.network import ConditionalFlowMatcher, HierarchicalConditionalFlowMatcher
from models.layers.checks import check_choice
from models.sampling.draws import NoiseDraws
from models.sampling.flow import FlowSteps, VelocityFn, solve
from models.sampling.guidance import VelocityGuidance, VelocityGuide
from models.sampling.prompted import PromptedRows

FlowMatcher = ConditionalFlowMatcher | HierarchicalConditionalFlowMatcher
PromptState = Literal["solved", "overwritten"]


@dataclass(frozen=True)
class FlowOptions:
    """Solver, guidance and treatment of the prompt."""

    steps: FlowSteps = field(default_factory=FlowSteps)
    guidance: VelocityGuidance = field(default_factory=VelocityGuidance)
    prompt_state: PromptState = "solved"
    """`overwritten`: after each step the prompt's frames are put where the path to the prompt is at that time, as in
    training (arXiv 2603.29339); `solved`: they follow the velocity, the published way."""

    def __post_init__(self) -> None:
        check_choice(self, "prompt_state", get_args(PromptState))


@dataclass(frozen=True)
class Conditions:
    """Inputs of a batch of rows, all padded on the right."""

    semantic_BT: Tensor
    """Of the target: ids (B, T) int64 of a hierarchical flow matcher, embeddings (B, T, Z) of the other."""
    lengths: Sequence[int]
    """Frames to generate, at least 1 each."""
    prompt_semantic_BP: Tensor
    """Of the prompt, in the same form; P may be 0."""
    prompt_BPZ: Tensor
    """Latents of the prompt."""
    prompt_lengths: Sequence[int]


@dataclass(frozen=True)
class Generated:
    """Latents (B, T, Z), 0 beyond each row's length, and how often the network ran."""

    latents_BTZ: Tensor
    evaluations: int


@torch.no_grad()
def generate(model: FlowMatcher, given: Conditions, options: FlowOptions, draws: NoiseDraws) -> Generated:
    """Solve the flow of every row, in float32 around a network of any type.

    A row's latents depend on its own conditions and draws only.
    """
    rows = PromptedRows(given.prompt_lengths, given.lengths, given.semantic_BT.device)
    semantic_BN = rows.join(given.prompt_semantic_BP, given.semantic_BT)
    semantic_BNZ = model.embed_semantic(semantic_BN, rows.mask_BN).float()
    nothing_BTZ = given.prompt_BPZ.new_zeros(*given.semantic_BT.shape[:2], given.prompt_BPZ.shape[-1])
    prompt_BNZ = rows.join(given.prompt_BPZ, nothing_BTZ) * rows.prompt_mask_BN[..., None]
    path = model.config.path
    prior_BNZ = path.prior(draws.normal(rows.lengths, prompt_BNZ.shape[-1]), semantic_BNZ)
    prompt_end_BNZ = path.end(prompt_BNZ, semantic_BNZ)

    def put_prompt_on_its_path(state_BNZ: Tensor, time: float) -> Tensor:
        on_path_BNZ = path.state(prior_BNZ, prompt_end_BNZ, time)
        return torch.where(rows.prompt_mask_BN[..., None], on_path_BNZ, state_BNZ)

    velocity_fn = _velocity(model, rows, semantic_BNZ, prompt_BNZ, options.guidance)
    after_step = put_prompt_on_its_path if options.prompt_state == "overwritten" else None
    solution = solve(velocity_fn, prior_BNZ, options.steps.times(), options.steps.method, after_step)
    latents_BTZ = path.latents(rows.target(solution.state), rows.target(semantic_BNZ))
    return Generated(latents_BTZ * rows.target_mask_BT[..., None], solution.evaluations)


def _velocity(
    model: FlowMatcher,
    rows: PromptedRows,
    semantic_BNZ: Tensor,
    prompt_BNZ: Tensor,
    guidance: VelocityGuidance,
) -> VelocityFn:
    """The network's velocity; both branches of guidance go through it in one call.

    The unconditional branch sees the target frames alone, without semantic embedding: what a row without conditions is
    in training.
    """
    network = model.flow if isinstance(model, HierarchicalConditionalFlowMatcher) else model
    dtype, n_positions = network.head.weight.dtype, rows.mask_BN.shape[1]
    guide = VelocityGuide(guidance, rows.target_mask_BT)
    semantic_2, prompt_2 = (torch.cat([x, torch.zeros_like(x)]).to(dtype) for x in (semantic_BNZ, prompt_BNZ))
    alone_BN = F.pad(rows.target_mask_BT, (0, n_positions - rows.target_mask_BT.shape[1]))
    mask_2 = torch.cat([rows.mask_BN, alone_BN])

    def run(state: Tensor, time: float, mask: Tensor | None) -> Tensor:
        """Evaluate the network for the conditional branch, or for that and the other one behind it."""
        n = len(state)
        times = torch.full((n,), time, device=state.device)
        velocity: Tensor = network(state.to(dtype), times, semantic_2[:n], prompt_2[:n], mask)
        return velocity.float()

    def velocity(state_BNZ: Tensor, time: float) -> Tensor:
        if not guidance.acts_at(time):
            return run(state_BNZ, time, rows.valid_BN)
        target_BTZ = rows.target(state_BNZ)
        n_targets = target_BTZ.shape[1]
        alone_BNZ = F.pad(target_BTZ, (0, 0, 0, n_positions - n_targets))
        conditional_BNZ, unconditional_BNZ = run(torch.cat([state_BNZ, alone_BNZ]), time, mask_2).chunk(2)
        guided_BTZ = guide(rows.target(conditional_BNZ), unconditional_BNZ[:, :n_targets], target_BTZ, time)
        return rows.join(rows.prompt(conditional_BNZ), guided_BTZ)

    return velocity
