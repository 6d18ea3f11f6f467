"""VALL-E's first stage at the paper's size: tokens per second with the cache, eager and compiled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from benchmarks.bench_autoregressive import conditions
from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json
from models.sampling.autoregressive import Limits, Sampler
from models.sampling.draws import RowDraws
from models.sampling.token_sampling import TokenSampling
from models.valle.ar import ValleAR
from models.valle.config import SIZES, ValleARConfig
from models.valle.sampling import Conditions, generate_first_level

CODES, FRAMES, FRAME_RATE = 1024, 750, 75
BATCHES = (1, 16, 64)
Run = Literal["eager", "compiled"]
RUNS: tuple[Run, ...] = ("eager", "compiled")


def run(machine: Machine) -> Mapping[str, Json]:
    """Tokens a second in all rows together, and the real-time factor of a row."""
    torch.manual_seed(0)
    sizes: Any = {"hidden_size": 64, "n_heads": 2, "n_layers": 2} if machine.small else SIZES["full"]
    with machine.device:
        model = ValleAR(ValleARConfig(CODES, CODES, **sizes)).eval()
    model = model.to(torch.bfloat16)
    found: dict[str, Json] = {}
    for how in RUNS[: 1 if machine.small else None]:
        for rows in BATCHES[: 1 if machine.small else None]:
            found[f"{how}, {rows} rows"] = _speed(machine, model, rows, how)
    return found


def _speed(machine: Machine, model: ValleAR, rows: int, how: Run) -> Json:
    if machine.left_s() < 20:
        return "left out: the time was up"
    frames = 20 if machine.small else FRAMES
    given = Conditions(*(part.to(machine.device) for part in conditions(rows).inputs()))

    def speak() -> object:
        limits = Limits(CODES, [frames] * rows, minimum=[frames] * rows)
        search = Sampler(TokenSampling(temperature=0), limits, RowDraws([0] * rows, machine.device))
        return generate_first_level(model, given, search, frames, run=how)

    seconds = machine.seconds(speak, least_s=3, most=3)
    return {
        "tokens_per_s": round(rows * frames / seconds),
        "real_time_factor": round(seconds / (frames / FRAME_RATE) / rows, 5),
    }
