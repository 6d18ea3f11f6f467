"""SoundStorm and flow matching against the ways in which they were published: same weights, same run, one thread.

    python -m benchmarks.bench_conversion [--flow SYSTEM --recordings FOLDER] [--published-size]

Three comparisons. SoundStorm's sampler: passes and time of the published schedule and of ours. Its training step: ours,
and the straightforward one, which makes the logits of all levels at all frames. The flow: time of the published solver
(16 midpoint steps, 32 evaluations, whatever is asked for) and of others, with the distance of each to the solution of
256 midpoint steps from the same noise. The last needs a trained flow: SYSTEM is a directory of a `flow_matching`
system, FOLDER has recordings: of each pair the source and the reference. `--published-size`
repeats the training step at the published size, which takes minutes.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.cascade import Cascade
from models.content import Voice
from models.flow_matching import stages as flow_stages
from models.flow_matching.sampling import Conditions, generate
from models.layers.levels import hidden_codes
from models.layers.masks import length_mask
from models.prompt import Prompt, prompt_samples
from models.sampling.draws import GeneratorDraws, RowDraws
from models.sampling.flow import FlowSteps
from models.soundstorm.corruption import Corruption, CorruptionConfig, corrupt
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.soundstorm.sampling import SoundStormOptions
from models.soundstorm.sampling import generate as generate_codes
from models.soundstorm.stages import conditions_of
from models.system_files import load_system
from pipelines.audio.decode import decode
from pipelines.stages.system import wave_of

REPEATS = 5
SAMPLER = SoundStormConfig(
    n_semantic_tokens=1024, hidden_size=512, n_layers=6, n_heads=8, feed_forward_size=2048
)
TARGET_FRAMES, PROMPT_FRAMES = 250, 150
"""5 s to convert, and the 3 s of prompt that the published script takes."""
STEPS = {
    "tiny (configs/tiny)": (
        SoundStormConfig(
            n_semantic_tokens=1024,
            hidden_size=128,
            n_layers=4,
            n_heads=4,
            feed_forward_size=384,
            conv_kernel_size=15,
        ),
        (16, 60),
    ),
    "256 x 6": (
        SoundStormConfig(
            n_semantic_tokens=1024, hidden_size=256, n_layers=6, n_heads=4, feed_forward_size=1024
        ),
        (8, 200),
    ),
}
"""Networks whose training step is measured, with rows and frames."""
PUBLISHED = (SoundStormConfig(n_semantic_tokens=1024), (1, 300))
SOLVERS = {
    "published (16 midpoint)": FlowSteps(8, "midpoint", "published"),
    "euler 32": FlowSteps(32, "euler", "uniform"),
    "epss 16": FlowSteps(16, "euler", "epss"),
    "epss 12": FlowSteps(12, "euler", "epss"),
    "epss 10": FlowSteps(10, "euler", "epss"),
    "epss 7": FlowSteps(7, "euler", "epss"),
    "epss 5": FlowSteps(5, "euler", "epss"),
    "sway 7": FlowSteps(7, "euler", "sway"),
    "uniform 7": FlowSteps(7, "euler", "uniform"),
    "midpoint 4": FlowSteps(4, "midpoint", "uniform"),
    "midpoint 7 epss": FlowSteps(7, "midpoint", "epss"),
    "published, 4 asked for": FlowSteps(4, "midpoint", "published"),
}


def interleaved(ways: Mapping[str, Callable[[int], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Least seconds of processor time of each way, which take turns; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            started = time.process_time()
            way(turn)
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: min(found) for name, found in seconds.items()}


def sampler() -> dict[str, Any]:
    """The published schedule and ours, with the published defaults: 8 steps, one level sampled in full."""
    torch.manual_seed(0)
    model = SoundStorm(SAMPLER).eval()
    semantic_T = torch.randint(SAMPLER.n_semantic_tokens, (TARGET_FRAMES,))
    prompt_P = torch.randint(SAMPLER.n_semantic_tokens, (PROMPT_FRAMES,))
    codes_PQ = torch.randint(SAMPLER.codebook_size, (PROMPT_FRAMES, SAMPLER.n_codebooks))
    given = conditions_of(model, [semantic_T], [Voice(prompt_P, codes_PQ)])
    passes: dict[str, int] = {}

    def way(name: str, options: SoundStormOptions) -> Callable[[int], object]:
        def run(turn: int) -> None:
            passes[name] = generate_codes(model, given, options, RowDraws([turn], "cpu")).evaluations

        return run

    ours, published = SoundStormOptions(), SoundStormOptions(schedule="published")
    seconds = interleaved({"ours": way("ours", ours), "published": way("published", published)}, 3)
    return {
        "network": f"{SAMPLER.hidden_size} x {SAMPLER.n_layers}",
        "passes": passes,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "faster": round(seconds["published"] / seconds["ours"], 2),
    }


def training_step(config: SoundStormConfig, shape: tuple[int, int], repeats: int = REPEATS) -> dict[str, Any]:
    """Loss and gradients of one batch, by the objective's way and the straightforward one."""
    torch.manual_seed(0)
    model, (rows, frames) = SoundStorm(config), shape
    codes_BTQ = torch.randint(config.codebook_size, (rows, frames, config.n_codebooks))
    semantic_BT = torch.randint(config.n_semantic_tokens, (rows, frames))
    lengths_B = torch.full((rows,), frames)
    losses: dict[str, list[float]] = {"ours": [], "straightforward": []}

    def way(name: str, loss_of: Callable[[Corruption], Tensor]) -> Callable[[int], object]:
        def run(turn: int) -> None:
            draws = GeneratorDraws(torch.Generator().manual_seed(turn))
            model.zero_grad()
            loss = loss_of(corrupt(lengths_B, frames, config.n_codebooks, CorruptionConfig(), draws))
            loss.backward()
            losses[name].append(float(loss.detach()))

        return run

    def ours(drawn: Corruption) -> Tensor:
        prompts_BT = length_mask(drawn.prompt_lengths_B, frames)
        logits_MV = model(
            semantic_BT, codes_BTQ, drawn.masked_BT, prompts_BT, None, drawn.levels_B, drawn.masked_BT
        )
        codes_BT = codes_BTQ[torch.arange(rows), :, drawn.levels_B]
        return F.cross_entropy(logits_MV, codes_BT[drawn.masked_BT], reduction="sum")

    def straightforward(drawn: Corruption) -> Tensor:
        levels, prompts_BT = config.n_codebooks, length_mask(drawn.prompt_lengths_B, frames)
        hidden_BTQ = hidden_codes(levels, drawn.masked_BT, prompts_BT, drawn.levels_B)
        states = model.backbone(
            model.embed_semantic(semantic_BT) + model.embed_codes(codes_BTQ, hidden_BTQ), None
        )
        logits_BTQV = torch.stack([model.heads(states, level) for level in range(levels)], dim=2)
        of_level_BQ = torch.arange(levels) == drawn.levels_B[:, None]
        wanted_BTQ = drawn.masked_BT[..., None] & of_level_BQ[:, None]
        return F.cross_entropy(logits_BTQV[wanted_BTQ], codes_BTQ[wanted_BTQ], reduction="sum")

    ways = {"ours": way("ours", ours), "straightforward": way("straightforward", straightforward)}
    seconds = interleaved(ways, repeats)
    assert torch.allclose(*(torch.tensor(losses[name]) for name in losses), rtol=1e-4)
    return {
        "rows": rows,
        "frames": frames,
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "faster": round(seconds["straightforward"] / seconds["ours"], 3),
    }


def solvers(system: Path, recordings: Path) -> dict[str, Any]:
    """Distance to the solution of 256 midpoint steps, relative to the deviation of the latents, and time."""
    cascade = load_system(system)
    assert isinstance(cascade, Cascade)
    stage = cascade.convert({})._speech
    assert isinstance(stage, flow_stages.SpeechStage)
    given = _conditions(stage, recordings)
    model = stage._model

    def latents(steps: FlowSteps) -> tuple[Tensor, int]:
        options = replace(flow_stages.FlowMatchingOptions().flow(), steps=steps)
        made = generate(model, given, options, RowDraws(range(len(given.lengths)), "cpu"))
        return made.latents_BTZ, made.evaluations

    exact_BTZ, _ = latents(FlowSteps(256, "midpoint", "uniform"))
    valid_BT = length_mask(torch.tensor(given.lengths), exact_BTZ.shape[1])
    scale = exact_BTZ[valid_BT].std()
    found = {}
    for name, steps in SOLVERS.items():
        made_BTZ, evaluations = latents(steps)
        error = (made_BTZ - exact_BTZ)[valid_BT].square().mean().sqrt() / scale
        found[name] = {"evaluations": evaluations, "error": round(float(error), 5)}
    timed = ("published (16 midpoint)", "midpoint 4")
    seconds = interleaved({name: lambda _, steps=SOLVERS[name]: latents(steps) for name in timed}, 3)
    return {
        "rows": len(given.lengths),
        "solvers": found,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "faster": round(seconds[timed[0]] / seconds[timed[1]], 2),
    }


def _conditions(stage: flow_stages.SpeechStage, recordings: Path) -> Conditions:
    """Pairs of recordings as the stage gives them to the network."""
    files = sorted(path for path in recordings.iterdir() if path.suffix in (".wav", ".flac"))
    chosen = files[:: max(1, len(files) // 32)][:32]
    waves = [
        prompt_samples(Prompt(wave_of(decode(path, stage.sample_rate))), stage.sample_rate) for path in chosen
    ]
    tokens = [stage.content(wave_T) for wave_T in waves[::2]]
    voices = [stage.voice(wave_T) for wave_T in waves[1::2]]
    pairs = min(len(tokens), len(voices))
    return flow_stages.conditions_of(stage._model, stage._codebooks_QVZ[0], tokens[:pairs], voices[:pairs])


def table(results: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    made = results["sampler"]
    lines = [
        f"SoundStorm's sampler, {made['network']}: {made['passes']['published']} passes in "
        f"{made['seconds']['published']} s as published, {made['passes']['ours']} in "
        f"{made['seconds']['ours']} s: {made['faster']} times faster",
        "",
        "| training step | straightforward, s | ours, s | faster |",
        "|---|--:|--:|--:|",
    ]
    for name, row in results["training_step"].items():
        seconds = row["seconds"]
        lines.append(f"| {name} | {seconds['straightforward']} | {seconds['ours']} | {row['faster']} |")
    if results["flow"] is not None:
        lines += ["", "| solver | evaluations | error |", "|---|--:|--:|"]
        for name, row in results["flow"]["solvers"].items():
            lines.append(f"| {name} | {row['evaluations']} | {row['error']} |")
        lines.append(f"\nmidpoint 4 is {results['flow']['faster']} times faster than the published solver")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flow", type=Path, metavar="SYSTEM", help="directory of a flow_matching system")
    parser.add_argument("--recordings", type=Path, metavar="FOLDER")
    parser.add_argument("--published-size", action="store_true")
    arguments = parser.parse_args(argv)
    if (arguments.flow is None) != (arguments.recordings is None):
        parser.error("--flow and --recordings go together")
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    steps = {name: training_step(*what) for name, what in STEPS.items()}
    if arguments.published_size:
        steps["published"] = training_step(*PUBLISHED, repeats=2)
    results = {
        "benchmark": "conversion",
        "sampler": sampler(),
        "training_step": steps,
        "flow": solvers(arguments.flow, arguments.recordings) if arguments.flow is not None else None,
        "machine": {"cores": os.cpu_count(), "threads": 1, "load": [load_before, os.getloadavg()[0]]},
    }
    print(table(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
