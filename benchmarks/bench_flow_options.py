"""Effect of each option of the flow's solver and guidance: digit kept, voice taken, evaluations, error of the solver.

    python -m benchmarks.bench_flow_options FSDD --work FOLDER [--each 2] [--split test] [--keep] [--only ROW ...]

FOLDER is that of `benchmarks/bench_digits.py`, which has trained the family `flow_matching`; its system converts the
same requests with each row of OPTIONS, one seed. The error is the distance of the latents to the solution of 64
midpoint steps with the same guidance and from the same noise, relative to their deviation, over ERROR_ROWS requests.
The last line is JSON; `--keep` writes benchmarks/results/flow_options.json after each row, with the rows that stand
there already.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.bench_digits import speak
from benchmarks.digits_corpus import Corpus, Request
from benchmarks.digits_families import FAMILIES
from benchmarks.digits_judges import judges
from models.cascade import Cascade
from models.checkpoints import Json
from models.flow_matching.sampling import Conditions, FlowOptions, generate
from models.flow_matching.stages import SpeechStage, conditions_of
from models.layers.masks import length_mask
from models.sampling.draws import RowDraws
from models.sampling.flow import FlowSteps
from models.system_files import load_system

RESULTS = Path(__file__).parent / "results" / "flow_options.json"
ERROR_ROWS = 8
EXACT = FlowSteps(64, "midpoint", "uniform")

Options = Mapping[str, Json]
MIDPOINT: Options = {"steps": 4, "method": "midpoint", "grid": "uniform"}
EULER: Options = {"steps": 7, "method": "euler", "grid": "uniform"}
OPTIONS: Mapping[str, Options] = {
    "published": {"grid": "published", "method": "midpoint"},
    "midpoint 4": MIDPOINT,
    "midpoint 4, sway": {**MIDPOINT, "grid": "sway"},
    "midpoint 3": {**MIDPOINT, "steps": 3},
    "midpoint 2": {**MIDPOINT, "steps": 2},
    "euler 8": {**EULER, "steps": 8},
    "euler 7": EULER,
    "euler 7, sway": {**EULER, "grid": "sway"},
    "euler 5, epss": {**EULER, "steps": 5, "grid": "epss"},
    "euler 7, epss": {**EULER, "grid": "epss"},
    "euler 16, epss": {**EULER, "steps": 16, "grid": "epss"},
    "guidance 1": {**MIDPOINT, "guidance": 1.0},
    "guidance 2": {**MIDPOINT, "guidance": 2.0},
    "guidance 1, times 0 to 0.5": {**MIDPOINT, "guidance": 1.0, "guidance_stop": 0.5},
    "guidance 1, times 0.25 to 1": {**MIDPOINT, "guidance": 1.0, "guidance_start": 0.25},
    "guidance 2, projected": {**MIDPOINT, "guidance": 2.0, "guidance_parallel": 0.0},
    "guidance 2, projected, momentum": {
        **MIDPOINT,
        "guidance": 2.0,
        "guidance_parallel": 0.0,
        "guidance_momentum": -0.5,
    },
    "guidance 2, norm at most 0.5": {**MIDPOINT, "guidance": 2.0, "guidance_max_rms": 0.5},
    "prompt overwritten": {**MIDPOINT, "prompt_state": "overwritten"},
}


class Solver:
    """Latents of a few requests by any options, and their distance to the exact solution."""

    def __init__(self, system: Cascade[Any, Any], corpus: Corpus, requests: Sequence[Request]) -> None:
        self._system = system
        chosen = requests[:: max(1, len(requests) // ERROR_ROWS)][:ERROR_ROWS]
        stage = self._stage({})
        waves = [[torch.from_numpy(wave) for wave in corpus.waves(side)] for side in _sides(chosen)]
        tokens, voices = map(stage.content, waves[0]), map(stage.voice, waves[1])
        self._given = conditions_of(stage._model, stage._codebooks_QVZ[0], [*tokens], [*voices])
        self._exact_BTZ = cache(self._latents)

    def error(self, options: Options) -> float | None:
        """None for momentum, whose guidance depends on the number of steps."""
        flow = self._stage(options)._flow
        if flow.guidance.momentum:
            return None
        exact_BTZ = self._exact_BTZ(dataclasses.replace(flow, steps=EXACT))
        valid_BT = length_mask(torch.tensor(self._given.lengths), exact_BTZ.shape[1])
        distance = (self._latents(flow) - exact_BTZ)[valid_BT].square().mean().sqrt()
        return float(distance / exact_BTZ[valid_BT].std())

    def _stage(self, options: Options) -> SpeechStage:
        stage = self._system.convert(options)._speech
        assert isinstance(stage, SpeechStage)
        return stage

    def _latents(self, flow: FlowOptions) -> Tensor:
        given: Conditions = self._given
        draws = RowDraws(range(len(given.lengths)), "cpu")
        return generate(self._stage({})._model, given, flow, draws).latents_BTZ


def _sides(requests: Sequence[Request]) -> tuple[list[Any], list[Any]]:
    """Sources and references."""
    return [request.source for request in requests], [request.prompt for request in requests]


def row(
    system: Cascade[Any, Any],
    corpus: Corpus,
    requests: Sequence[Request],
    ears: Any,
    solver: Solver,
    options: Options,
) -> dict[str, Any]:
    """Figures of one row of OPTIONS."""
    family = dataclasses.replace(FAMILIES["flow_matching"], options=options)
    spoken = speak(family, system, corpus, requests, seed=0)
    found, error = ears.judge(spoken.utterances), solver.error(options)
    return {
        "digits": round(found.digits, 4),
        "digits_interval": found.digits_interval,
        "speakers": round(found.speakers, 4),
        "speakers_interval": found.speakers_interval,
        "requests": len(requests),
        "evaluations": spoken.evaluations,
        "error": None if error is None else round(error, 5),
        "real_time_factor": round(spoken.real_time_factor, 3),
        "options": dict(options),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fsdd", type=Path, metavar="FSDD")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--each", type=int, default=2, help="requests for every pair of digit and speaker")
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--only", nargs="*", choices=OPTIONS, metavar="ROW", help=f"of {', '.join(OPTIONS)}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus, work = Corpus(arguments.fsdd), arguments.work.absolute()
    system = load_system(work / "flow_matching" / "system-100" / "system")
    assert isinstance(system, Cascade)
    ears, requests = judges(corpus, work), corpus.requests(arguments.split, arguments.each)
    solver = Solver(system, corpus, requests)
    results: dict[str, Any] = {
        "benchmark": "flow_options",
        "error_rows": ERROR_ROWS,
        "machine": {"cores": os.cpu_count(), "threads": 1, "load": os.getloadavg()},
        "rows": json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else {},
    }
    print("| | digits | speakers | evaluations | error |\n|---|--:|--:|--:|--:|", flush=True)
    for name in arguments.only or OPTIONS:
        found = results["rows"][name] = row(system, corpus, requests, ears, solver, OPTIONS[name])
        cells = [f"{found['digits']:.3f}", f"{found['speakers']:.3f}", f"{found['evaluations']:g}"]
        print(f"| {name} | {' | '.join(cells)} | {found['error']} |", flush=True)
        if arguments.keep:
            RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
