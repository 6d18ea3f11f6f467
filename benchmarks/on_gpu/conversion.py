"""SoundStorm and flow matching at published size: real-time factors, the published way against ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.content import Voice
from models.flow_matching.network import ConditionalFlowMatcher, FlowMatchingConfig
from models.flow_matching.sampling import Conditions, FlowOptions
from models.flow_matching.sampling import generate as generate_latents
from models.sampling.draws import RowDraws
from models.sampling.flow import FlowSteps
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.soundstorm.sampling import SoundStormOptions
from models.soundstorm.sampling import generate as generate_codes
from models.soundstorm.stages import conditions_of

FRAME_RATE, SECONDS, PROMPT_S = 50, 10, 3
BATCHES = (1, 16)
FLOWS = {
    "published": FlowSteps(8, "midpoint", "published"),
    "midpoint 4": FlowSteps(4, "midpoint", "uniform"),
}


def _seconds(machine: Machine) -> int:
    return 1 if machine.small else SECONDS


def run(machine: Machine) -> Mapping[str, Json]:
    """Seconds of work a second of converted speech, with network evaluations."""
    sizes: dict[str, Any] = (
        {"hidden_size": 64, "n_layers": 2, "n_heads": 2, "feed_forward_size": 128} if machine.small else {}
    )
    torch.manual_seed(0)
    with machine.device:
        soundstorm = SoundStorm(SoundStormConfig(n_semantic_tokens=1024, **sizes)).eval()
        latent = {"latent_size": 64} if machine.small else {}
        flow = ConditionalFlowMatcher(FlowMatchingConfig(**sizes, **latent)).eval()
    found: dict[str, Json] = {}
    for rows in BATCHES[: 1 if machine.small else None]:
        for name, options in {
            "published": SoundStormOptions(schedule="published"),
            "ours": SoundStormOptions(),
        }.items():
            found[f"soundstorm {name}, {rows} rows"] = _timed(
                machine, _soundstorm(machine, soundstorm, options, rows), rows
            )
        for name, steps in FLOWS.items():
            found[f"flow {name}, {rows} rows"] = _timed(machine, _flow(machine, flow, steps, rows), rows)
    return found


def _timed(machine: Machine, way: Callable[[], int], rows: int) -> Json:
    if machine.left_s() < 10:
        return "left out: the time was up"
    evaluations = way()
    seconds = machine.seconds(way, warm=0, least_s=2, most=5)
    return {"evaluations": evaluations, "real_time_factor": round(seconds / _seconds(machine) / rows, 5)}


def _soundstorm(
    machine: Machine, model: SoundStorm, options: SoundStormOptions, rows: int
) -> Callable[[], int]:
    config, device = model.config, machine.device
    semantic = [
        torch.randint(config.n_semantic_tokens, (FRAME_RATE * _seconds(machine),), device=device)
    ] * rows
    prompt_T = torch.randint(config.n_semantic_tokens, (FRAME_RATE * PROMPT_S,), device=device)
    codes_TQ = torch.randint(config.codebook_size, (len(prompt_T), config.n_codebooks), device=device)
    given = conditions_of(model, semantic, [Voice(prompt_T, codes_TQ)] * rows)

    @torch.no_grad()
    def way() -> int:
        with machine.autocast():
            return generate_codes(model, given, options, RowDraws(range(rows), device)).evaluations

    return way


def _flow(machine: Machine, model: ConditionalFlowMatcher, steps: FlowSteps, rows: int) -> Callable[[], int]:
    device, channels = machine.device, model.config.latent_size
    frames, prompt = FRAME_RATE * _seconds(machine), FRAME_RATE * PROMPT_S
    given = Conditions(
        torch.randn(rows, frames, channels, device=device),
        [frames] * rows,
        torch.randn(rows, prompt, channels, device=device),
        torch.randn(rows, prompt, channels, device=device),
        [prompt] * rows,
    )

    @torch.no_grad()
    def way() -> int:
        with machine.autocast():
            return generate_latents(
                model, given, FlowOptions(steps), RowDraws(range(rows), device)
            ).evaluations

    return way
