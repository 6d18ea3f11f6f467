"""Real-time factor of a system: seconds of computing for a second of speech, by batch size and guidance.

    python -m benchmarks.bench_synthesize [--model models:/NAME@ALIAS or DIRECTORY] [--tracking-uri URI] [--threads 1]

The model defaults to the champion that `make demo` left in demo/. Loading is not counted. Every setting speaks the same
digits and phrases; the best of three runs counts, because other work on the machine only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch

from catalog.models import resolve
from models.system import System
from models.system_files import load_system
from pipelines.demo.corpus import DIGITS

RESULTS = Path(__file__).parent / "results" / "synthesize.json"
DEMO = "sqlite:///demo/mlflow.db"
TEXTS = [*DIGITS, "seven three nine", "one two three four", "zero eight", "five five six"]


def measure(system: System, batch: int, guidance: float) -> tuple[float, float]:
    """Seconds of speech, and of computing (the best of three runs)."""
    best = float("inf")
    for _ in range(3):
        audio_s, started = 0.0, time.perf_counter()
        for at in range(0, len(TEXTS), batch):
            generator = torch.Generator().manual_seed(at)
            waves = system.synthesize(TEXTS[at : at + batch], generator=generator, guidance=guidance)
            audio_s += sum(int(wave.lengths_B[0]) / wave.sample_rate for wave in waves)
        best = min(best, time.perf_counter() - started)
    return audio_s, best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="models:/maskgct@champion")
    parser.add_argument("--tracking-uri", default=os.environ.get("MLFLOW_TRACKING_URI", DEMO))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    system = load_system(resolve(arguments.model, arguments.tracking_uri))
    system.synthesize(TEXTS[:1], generator=torch.Generator().manual_seed(0))
    rows = []
    print("| batch | guidance | speech s | computing s | real-time factor |")
    print("|--:|--:|--:|--:|--:|")
    for batch in (1, len(TEXTS)):
        for guidance in (0.0, 1.0):
            audio_s, wall_s = measure(system, batch, guidance)
            factor = round(wall_s / audio_s, 3)
            rows.append(
                {"batch": batch, "guidance": guidance, "audio_s": audio_s, "real_time_factor": factor}
            )
            print(f"| {batch} | {guidance:g} | {audio_s:.2f} | {wall_s:.2f} | {factor:.3f} |")
    result = {"benchmark": "synthesize", "model": arguments.model, "threads": arguments.threads, "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
