"""Effect of each option of the flow's solver and guidance on converted digits: digit kept, voice taken, evaluations.

    python -m benchmarks.bench_flow_options FSDD --work FOLDER [--split test] [--keep]

FOLDER is that of `benchmarks/bench_digits.py`, which has trained the family `flow_matching`; its system converts the
same requests with each row of OPTIONS, one seed. The last line is JSON; `--keep` writes
benchmarks/results/flow_options.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_digits import EACH, speak
from benchmarks.digits_corpus import Corpus
from benchmarks.digits_families import FAMILIES
from benchmarks.digits_judges import judges
from models.checkpoints import Json
from models.system_files import load_system

RESULTS = Path(__file__).parent / "results" / "flow_options.json"
GUIDED: dict[str, Json] = {"guidance": 1.0}
OPTIONS: Mapping[str, Mapping[str, Json]] = {
    "epss 7": {},
    "published": {"grid": "published", "method": "midpoint"},
    "epss 5": {"steps": 5},
    "epss 16": {"steps": 16},
    "uniform 7": {"grid": "uniform"},
    "sway 7": {"grid": "sway"},
    "guidance 1": GUIDED,
    "guidance 2": {"guidance": 2.0},
    "guidance 1, times 0 to 0.5": {**GUIDED, "guidance_stop": 0.5},
    "guidance 1, times 0.25 to 1": {**GUIDED, "guidance_start": 0.25},
    "guidance 2, projected": {"guidance": 2.0, "guidance_parallel": 0.0},
    "guidance 2, projected, momentum": {"guidance": 2.0, "guidance_parallel": 0.0, "guidance_momentum": -0.5},
    "prompt overwritten": {"prompt_state": "overwritten"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fsdd", type=Path, metavar="FSDD")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", choices=("test", "validation"), default="test")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    corpus, work = Corpus(arguments.fsdd), arguments.work.absolute()
    system = load_system(work / "flow_matching" / "system-100" / "system")
    ears, requests = judges(corpus, work), corpus.requests(arguments.split, EACH)
    rows: dict[str, Any] = {}
    for name, options in OPTIONS.items():
        family = dataclasses.replace(FAMILIES["flow_matching"], options=options)
        spoken = speak(family, system, corpus, requests, seed=0)
        found = ears.judge(spoken.utterances)
        rows[name] = {
            "digits": round(found.digits, 4),
            "digits_interval": found.digits_interval,
            "speakers": round(found.speakers, 4),
            "speakers_interval": found.speakers_interval,
            "evaluations": spoken.evaluations,
            "real_time_factor": round(spoken.real_time_factor, 3),
        }
        print(f"| {name} | {found.digits:.3f} | {found.speakers:.3f} | {spoken.evaluations:g} |", flush=True)
    results = {"benchmark": "flow_options", "requests": len(requests), "rows": rows}
    if arguments.keep:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
