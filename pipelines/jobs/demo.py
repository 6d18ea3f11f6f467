"""The whole flow on one machine without a network: espeak-ng corpus -> shards -> T2S and S2A -> registry -> speech.

Every step is the command that a user would type, run in a process of its own. It ends with an honest figure: how many
of 40 digits spoken by the trained system a classifier, trained on the demo's own recordings, recognises.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch

from catalog.command import JobError
from catalog.import_path import import_path
from catalog.tracking_store import sqlite_uri
from pipelines.audio.containers import Samples
from pipelines.audio.decode import decode
from pipelines.demo.classifier import SAMPLE_RATE, train_classifier
from pipelines.demo.corpus import DIGITS, Voice, make_digit_corpus

name = "demo"
help = "the whole flow on this machine, no network: corpus, shards, training, registry, speech"

VOICES = (Voice("en-us"), Voice("en-us+f2"), Voice("en-us+m3"), Voice("en-gb-scotland"))
CODEC = "mill-16khz"
SENTENCE = "seven three nine"
PASS = 36
_REPOSITORY = Path(__file__).resolve().parents[2]
_CONFIGS = _REPOSITORY / "configs" / "demo"


@dataclass
class _Demo:
    """The demo's folder, and the wall time of each step."""

    folder: Path
    minutes: float
    wall_s: dict[str, float] = field(default_factory=dict)

    @property
    def tracking_uri(self) -> str:
        return sqlite_uri(self.folder / "mlflow.db")

    def run(self, step: str, words: Sequence[str], log: Path | None = None) -> dict[str, object]:
        """Run `speechmill WORDS`, its progress into `log` if given; return its JSON line. JobError when it fails."""
        aside = f"   # progress in {log}" if log else ""
        print(f"\n$ speechmill {shlex.join(words)}{aside}", flush=True)  # noqa: T201
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            # Networks this small gain nothing from a second thread, and two of them train at once.
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(import_path()),
        }
        command = [sys.executable, "-P", "-m", "speechmill", *words]
        started = time.perf_counter()
        with log.open("w", encoding="utf-8") if log else nullcontext() as errors:
            # Inside the demo's folder, so that MLflow's default artifact folder is there too.
            child = subprocess.run(
                command,
                cwd=self.folder,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        self.wall_s[step] = round(time.perf_counter() - started, 1)
        if child.returncode != 0:
            last = "".join(log.read_text(encoding="utf-8").splitlines()[-1:]) if log else ""
            raise JobError(f"step {step} failed with exit code {child.returncode} {last}".rstrip())
        print(child.stdout, end="", flush=True)  # noqa: T201
        result: dict[str, object] = json.loads(child.stdout.strip().splitlines()[-1])
        return result


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to work in (default: demo)")
    parser.add_argument("--text", default=SENTENCE, help=f"number words to speak (default: {SENTENCE!r})")
    parser.add_argument(
        "--minutes", type=float, default=4.5, help="processor time of each training (default: 4.5)"
    )


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Run every step; returns the figures and where everything is."""
    started = time.perf_counter()
    unknown = sorted(set(arguments.text.lower().split()) - set(DIGITS))
    if unknown or not arguments.text.strip():
        raise JobError(f"--text {arguments.text!r}: the demo learns the words {', '.join(DIGITS)} only")
    if not _CONFIGS.is_dir():
        raise JobError(f"the demo runs in a checkout of speechmill; there is no {_CONFIGS}")
    demo = _Demo(arguments.output.resolve(), arguments.minutes)
    _make_recordings(demo)
    prepared = demo.run("prepare", ["prepare", "recordings", "dataset"])
    _train(demo)
    assembled = _assemble(demo)
    speech = demo.folder / "speech.wav"
    model = ["--model", "models:/maskgct@champion"]
    demo.run("speak", ["synthesize", *model, "--text", arguments.text.lower(), "--output", str(speech)])
    table = _judge(demo, model)
    total_s = time.perf_counter() - started
    _report(demo, table, arguments.text, total_s)
    return {
        "speech": str(speech),
        "dataset": str(demo.folder / "dataset"),
        "hours": prepared["hours"],
        "model": f"models:/maskgct/{assembled['version']}",
        "tracking_uri": demo.tracking_uri,
        **table,
        "wall_s": round(total_s, 1),
    }


def _make_recordings(demo: _Demo) -> None:
    print(f"== espeak-ng says digits in {len(VOICES)} voices -> {demo.folder / 'recordings'}", flush=True)  # noqa: T201
    started = time.perf_counter()
    make_digit_corpus(demo.folder / "recordings", VOICES, repeats=10, phrases=800, seed=1)
    make_digit_corpus(demo.folder / "held_out", VOICES, repeats=1, phrases=0, seed=2)
    demo.wall_s["recordings"] = round(time.perf_counter() - started, 1)


def _train(demo: _Demo) -> None:
    """Both generators at once, one core each: they meet only in the dataset."""

    def fit(generator: str, log: Path | None) -> None:
        stop = f"loop.max_minutes={demo.minutes}"
        demo.run(f"train {generator}", ["train", str(_CONFIGS / f"{generator}.yaml"), "--set", stop], log)

    with ThreadPoolExecutor(2) as both:
        list(both.map(fit, ("t2s", "s2a"), (None, demo.folder / "train-s2a.log")))


def _assemble(demo: _Demo) -> dict[str, object]:
    generators = ["--t2s", "models:/maskgct-t2s@best", "--s2a", "models:/maskgct-s2a@best"]
    name = ["--codec", CODEC, "--name", "maskgct", "--alias", "champion"]
    # 16 steps instead of the published 50 are faster; why there is no guidance is in docs/log.md.
    options = ["--set", "options.t2s_steps=16", "--set", "options.guidance=0.0"]
    return demo.run("assemble", ["assemble", *generators, *name, *options])


def _judge(demo: _Demo, model: list[str]) -> dict[str, int]:
    """Let the classifier hear 40 digits: held-out recordings, their codec round trip, and the system's own."""
    torch.set_num_threads(1)
    waves, words = single_digits(demo.folder / "recordings")
    heard, said = single_digits(demo.folder / "held_out")
    classifier = train_classifier(waves, words, DIGITS)
    demo.run("reconstruct", ["reconstruct", "held_out", "reconstructed", "--codec", CODEC])
    requests = [{"id": f"{word}-{take}", "text": word} for take in range(4) for word in DIGITS]
    lines = "\n".join(json.dumps(request) for request in requests)
    (demo.folder / "digits.jsonl").write_text(lines + "\n", encoding="utf-8")
    demo.run("speak digits", ["synthesize", *model, "--input", "digits.jsonl", "--output", "digits"])
    round_trip = [_wave(demo.folder / "reconstructed" / f"{index:05d}.wav") for index in range(len(said))]
    spoken = [_wave(demo.folder / "digits" / f"{request['id']}.wav") for request in requests]
    return {
        "digits": len(requests),
        "recognised_recordings": classifier.correct(heard, said),
        "recognised_reconstructed": classifier.correct(round_trip, said),
        "recognised_synthesized": classifier.correct(spoken, [request["text"] for request in requests]),
    }


def single_digits(folder: Path) -> tuple[list[Samples], list[str]]:
    """The recordings of a corpus that say one digit, at 16 kHz, and what they say."""
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["text"] in DIGITS]
    return [_wave(folder / row["file"]) for row in rows], [row["text"] for row in rows]


def _wave(path: Path) -> Samples:
    return decode(path, SAMPLE_RATE).samples


def _report(demo: _Demo, table: Mapping[str, int], text: str, total_s: float) -> None:
    total = table["digits"]
    rows = [
        ("held-out recordings", table["recognised_recordings"]),
        ("their codec round trip", table["recognised_reconstructed"]),
        ("spoken by the trained system", table["recognised_synthesized"]),
    ]
    lines = [
        "",
        "| digits | recognised |",
        "|---|--:|",
        *[f"| {what} | {right} of {total} |" for what, right in rows],
    ]
    steps = ", ".join(f"{step} {seconds:.0f} s" for step, seconds in demo.wall_s.items())
    lines += ["", f"{total_s / 60:.1f} minutes: {steps}", ""]
    (demo.folder / "report.md").write_text("\n".join(lines), encoding="utf-8")
    lines += [
        f"it says {text!r}: {demo.folder / 'speech.wav'}",
        f"recordings, dataset, runs and this table: {demo.folder}",
        f"MLflow: mlflow ui --backend-store-uri {shlex.quote(demo.tracking_uri)}",
    ]
    if table["recognised_synthesized"] < PASS:
        lines.append(f"fewer than {PASS} of {total}: longer training helps, --minutes {2 * demo.minutes:g}")
    print("\n".join(lines), flush=True)  # noqa: T201
