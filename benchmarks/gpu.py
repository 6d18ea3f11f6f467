"""Correctness and speed on one GPU, in one command of a few minutes.

    python -m benchmarks.gpu [--sections correctness,training,...] [--minutes 9] [--out FOLDER] [--small]

Needs torch, torchaudio, transformers and pyarrow alone: no Ray, no MLflow. Sections run in order of worth, each
caught: one that fails writes its error and the next begins; one whose turn comes after the time is up is left out.
Each writes `FOLDER/gpu.json` anew, so that what was measured stays when the machine is taken away. Baselines run in the
same process with the same weights. `--small` has tiny networks, for a dry run without a GPU: its figures mean nothing
and are never kept. Without `--out`, the file is benchmarks/results/gpu.json. Section `voice` trains the voice of
bench_voice in the minutes that are left, from the folder `--voice`, and writes its weights to `FOLDER/voice` in pieces.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch

from benchmarks.on_gpu import codecs, conversion, correctness, decoding, synthesis, training, voice
from benchmarks.on_gpu.machine import Machine
from models.checkpoints import Json

RESULTS = Path(__file__).parent / "results" / "gpu.json"
Section: TypeAlias = Callable[[Machine], Mapping[str, Json]]
SECTIONS: Mapping[str, Section] = {
    "correctness": correctness.run,
    "training": training.run,
    "synthesis": synthesis.run,
    "codecs": codecs.run,
    "decoding": decoding.run,
    "conversion": conversion.run,
    "voice": partial(voice.run, carried=None, out=RESULTS.with_name("voice")),
}


def measure(sections: Mapping[str, Section], machine: Machine, keep: Path | None) -> dict[str, Json]:
    """Run the sections until the time is up; what is found is printed and kept as each ends."""
    results: dict[str, Json] = {"benchmark": "gpu", **machine.described()}
    for name, section in sections.items():
        if machine.left_s() <= 0:
            results[name] = "left out: the time was up"
            continue
        started = time.monotonic()
        found: dict[str, Json]
        try:
            found = dict(section(machine))
        except Exception as error:  # noqa: BLE001 the next section may still work
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        found["seconds"] = round(time.monotonic() - started, 1)
        results[name] = found
        print(json.dumps({name: found}), flush=True)
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            keep.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        if machine.device.type == "cuda":
            torch.cuda.empty_cache()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sections", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--voice", type=Path, help="folder that `bench_voice carry` made; needs --out")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    names = arguments.sections.split(",")
    unknown = sorted(set(names) - set(SECTIONS))
    if unknown:
        parser.error(f"--sections {unknown[0]}: known are {', '.join(SECTIONS)}")
    if arguments.voice is not None and arguments.out is None:
        parser.error("--voice needs --out, the folder for the pieces")
    if not arguments.small and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --small is a dry run without one")
    kept = arguments.out / "gpu.json" if arguments.out is not None else RESULTS
    machine = Machine(small=arguments.small, minutes=arguments.minutes)
    chosen = {name: SECTIONS[name] for name in names}
    if "voice" in chosen and arguments.voice is not None:
        chosen["voice"] = partial(voice.run, carried=arguments.voice, out=arguments.out / "voice")
    results = measure(chosen, machine, None if arguments.small and arguments.out is None else kept)
    if any(isinstance(found, dict) and "error" in found for found in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
