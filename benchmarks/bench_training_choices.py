"""Validation losses over the steps of short trainings that differ in one choice: optimiser, start of the embeddings.

    python -m benchmarks.bench_training_choices --work FOLDER [--only GROUP ...] [--steps 100] [--seeds 3]

FOLDER is that of `benchmarks/bench_digits.py`, of which the prepared dataset is read. The trainings of a group (GROUPS)
have the same network, the same batches in the same order and the same steps, so that a step is the same number of
tokens for all of them. Groups of optimisers train with seed 0 alone. benchmarks/results/training_choices.json is
written after each training. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.digits_training import CONFIGS
from trainers.fit import resolve
from trainers.loop import train
from trainers.loop_config import Hooks
from trainers.run import build
from trainers.settings import load_fit

RESULTS = Path(__file__).parent / "results" / "training_choices.json"
EVERY = 20
LR, MORE = 2e-3, 4e-3
"""The learning rate of configs/digits, and twice that."""


@dataclass(frozen=True)
class Group:
    """Trainings that are compared."""

    config: str
    """Of configs/digits."""
    choices: Mapping[str, Sequence[str]]
    """Settings of each training."""
    seeded: bool = False
    """True: every seed, not the first one alone."""


def _optimisers(config: str) -> Group:
    rates = {f"{lr:g}": f"loop.optim.lr={lr}" for lr in (LR, MORE)}
    return Group(
        config,
        {
            f"{kind}, {name}": [f"loop.optim.kind={kind}", rate]
            for name, rate in rates.items()
            for kind in ("adamw", "muon")
        },
    )


GROUPS: Mapping[str, Group] = {
    "optimisers of T2S": _optimisers("maskgct_t2s.yaml"),
    "optimisers of S2A": _optimisers("maskgct_s2a.yaml"),
    "embeddings of SoundStorm": Group(
        "soundstorm.yaml",
        {start: [f"objective.embeddings={start}"] for start in ("random", "codebooks")},
        seeded=True,
    ),
}


def losses(group: Group, choice: str, seed: int, dataset: Path, steps: int) -> dict[int, float]:
    """Validation loss by step."""
    overrides = [
        f"data.dataset={dataset}",
        f"output={dataset.parent / 'choices'}",
        "loop.max_minutes=null",
        f"loop.max_steps={steps}",
        "loop.ema_decay=null",
        "loop.optim.warmup_steps=20",
        f"loop.validate_every={EVERY}",
        "loop.validation_batches=4",
        f"loop.seed={seed}",
        *group.choices[choice],
    ]
    settings = load_fit(CONFIGS / group.config, overrides)
    run = build(settings, resolve(settings.data))
    found: dict[int, float] = {}

    def keep(step: int, metrics: Mapping[str, float], _samples: object) -> None:
        found[step] = round(metrics["validation_loss"], 4)

    with tempfile.TemporaryDirectory() as folder:
        train(
            run.objective,
            run.batches,
            settings.loop,
            directory=Path(folder),
            validation=run.validation,
            hooks=Hooks(on_validate=keep),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=GROUPS, metavar="GROUP", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "benchmark": "training_choices",
        "machine": {"cores": os.cpu_count(), "threads": 1, "load": os.getloadavg()},
        "groups": json.loads(arguments.results.read_text())["groups"] if arguments.results.exists() else {},
    }
    dataset = arguments.work.absolute() / "dataset"
    for name in arguments.only or GROUPS:
        group = GROUPS[name]
        of_group = results["groups"][name] = {"steps": arguments.steps, "validation_loss": {}}
        for seed in range(arguments.seeds if group.seeded else 1):
            for choice in group.choices:
                found = losses(group, choice, seed, dataset, arguments.steps)
                of_group["validation_loss"].setdefault(choice, {})[seed] = found
                print(f"{name} | {choice} | seed {seed} | {found}", flush=True)
                arguments.results.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
