"""Speed of the quality measures: seconds of audio per second, one thread, each beside the codec stage.

    python -m benchmarks.bench_quality SPEECH_FOLDER [--limit RECORDINGS] [--rounds N] [--reference RECORDINGS]

Seconds are of processor time, so that other work on the machine decides less. Rounds interleave the stages and each
stage counts with its best round. The first `--reference` recordings are also scored by speechmos itself: its rate, and
the largest difference of a score. The last line is JSON; it is also written to benchmarks/results/quality.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.codec_corpus import AUDIO
from models.codec_sources import load_codec
from pipelines.audio.decode import decode
from pipelines.rows import samples_array, waves
from pipelines.speech.quality import dnsmos
from pipelines.stages.codec import CodecStage
from pipelines.stages.quality import MEASURES, QualityStage

RESULTS = Path(__file__).parent / "results" / "quality.json"
CODEC = "mill-16khz"


def read(folder: Path, rate: int, limit: int) -> pa.Table:
    paths = sorted(path for path in folder.iterdir() if path.suffix in AUDIO)[:limit]
    return pa.table({"samples": samples_array([decode(path, rate).samples for path in paths])})


def rates(
    table: pa.Table, seconds: float, stages: dict[str, Callable[[pa.Table], Any]], rounds: int
) -> dict[str, float]:
    """Seconds of audio per second of processor time, each stage's best round."""
    best = dict.fromkeys(stages, float("inf"))
    for stage in stages.values():
        stage(table.slice(0, 2))
    for _ in range(rounds):
        for name, stage in stages.items():
            begin = time.process_time()
            stage(table)
            best[name] = min(best[name], time.process_time() - begin)
    return {name: round(seconds / spent, 1) for name, spent in best.items()}


def beside_speechmos(table: pa.Table, rate: int) -> dict[str, float]:
    """speechmos' own rate, and how far our scores are from its scores."""
    from speechmos import dnsmos as reference

    ours = QualityStage(("dnsmos",), rate)(table)["dnsmos"].to_pylist()
    rows = [np.clip(wave, -1, 1) for wave in waves(table) if wave is not None]
    reference.run(rows[0], rate)
    begin = time.process_time()
    theirs = [float(reference.run(wave, rate)["ovrl_mos"]) for wave in rows]
    spent = time.process_time() - begin
    return {
        "recordings": len(rows),
        "speechmos_x": round(sum(map(len, rows)) / rate / spent, 1),
        "largest_difference": round(float(np.abs(np.subtract(ours, theirs)).max()), 6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("--limit", type=int, default=40, help="recordings at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--reference", type=int, default=5, help="recordings that speechmos scores too; 0: none"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rate = load_codec(CODEC).sample_rate
    table = read(arguments.speech, rate, arguments.limit)
    lengths = [len(wave) / rate for wave in waves(table) if wave is not None]
    print(f"{len(lengths)} recordings, {sum(lengths):.0f} s, one thread; seconds of audio per second")
    stages: dict[str, Callable[[pa.Table], Any]] = {"codec": CodecStage(CODEC)}
    stages |= {name: QualityStage((name,), rate) for name in MEASURES}
    stages["dnsmos, one window in 10 s"] = QualityStage(("dnsmos",), rate, dnsmos_hop_s=10)
    found = rates(table, sum(lengths), stages, arguments.rounds)
    for name, speed in found.items():
        print(f"{name:28} {speed:9.1f}x  {speed / found['codec']:8.2f} of the codec")
    results: dict[str, Any] = {
        "recordings": len(lengths),
        "seconds": round(sum(lengths), 1),
        "shorter_than_a_window": sum(length < dnsmos.WINDOW_S for length in lengths),
        "audio_x": found,
        "of_codec": {name: round(speed / found["codec"], 2) for name, speed in found.items()},
    }
    if arguments.reference and rate == dnsmos.SAMPLE_RATE:
        results["reference"] = beside_speechmos(table.slice(0, arguments.reference), rate)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
