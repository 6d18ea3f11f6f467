"""`prepare` against what one would write oneself, each over the same files in the same run.

Steady state counts from the moment when every worker has finished something; "with start-up" from the first line.
Baselines are in `prepare_baselines.py`. Everything runs once a round, every second round in the opposite order, and a
ratio is the median of its rounds: single runs differ by a tenth and more on a machine that others use, too. Also: one
worker against two, the share of time that commits take, the time to the first commit, decoding and resampling against
WhisperX's `load_audio` (which needs the ffmpeg program), and the driver's memory against the number of recordings.

    python benchmarks/bench_prepare.py [--minutes 30] [--rounds 5] [--workers 2] [--recordings 1000 10000]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))
RESULTS = Path(__file__).parent / "results" / "prepare.json"
SENTENCE = (
    "the sun sets over a quiet harbour while seven small boats return with silver fish and tired sailors"
)
WORDS = SENTENCE.split()
WANTED = {
    "bare": 0.95,
    "datasets": 1.2,
    "datasets-tuned": None,
    "ray": 1.5,
    "ray-tuned": None,
    "one worker": 1.85,
}
"""What `prepare` should reach of each, steady."""
KINDS = [
    "datasets",
    "datasets-tuned",
    "bare",
    "prepare",
    "ray",
    "ray-tuned",
    "one worker",
    "bare, one worker",
]
SELDOM = {"datasets": 5, "one worker": 2, "bare, one worker": 2}
"""Run in every so many rounds only; they are slow."""


def make_corpus(folder: Path, minutes: float) -> None:
    """Sentences of 2 to 12 seconds in several voices, with transcripts."""
    from pipelines.demo.corpus import Voice, speak

    folder.mkdir()
    draw = random.Random(0)
    voices = [
        Voice(name, speed)
        for name in ("en-us", "en-us+f2", "en-gb-scotland", "en-us+m3")
        for speed in (130, 160)
    ]
    seconds = index = 0
    while seconds < 60 * minutes:
        text = " ".join(draw.choices(WORDS, k=draw.randint(5, 28)))
        seconds += speak(text, draw.choice(voices), folder / f"{index:05d}.wav")
        (folder / f"{index:05d}.txt").write_text(text)
        index += 1


def make_many(folder: Path, count: int) -> None:
    """Short noises: what is measured is the number of recordings."""
    from pipelines.audio.wav import write_wav

    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 1600).astype(np.float32)
    write_wav(folder / "first.wav", noise, 16_000)
    for index in range(count - 1):
        os.link(folder / "first.wav", folder / f"{index:06d}.wav")


def child(*words: str, threads: str = "1") -> dict[str, Any]:
    """The JSON line that a program of its own ends with; `threads` of torch, or as many as it likes."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"PYTHONPATH": str(REPOSITORY)} | ({"OMP_NUM_THREADS": threads} if threads else {})
    result = subprocess.run(
        [sys.executable, *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def baseline(kind: str, corpus: Path, folder: Path, codec: str, workers: int) -> dict[str, float]:
    output = folder / f"{kind}{time.time_ns()}"
    script = str(Path(__file__).parent / "prepare_baselines.py")
    threads = "" if kind == "datasets" else "1"
    return child(script, kind, str(corpus), codec, str(workers), str(output), threads=threads)


_PREPARE = """
import json, sys, time
started = time.time()
from pathlib import Path
from catalog.appending import Appender
from pipelines.execution import cluster
from pipelines.prepare import job as prepare
from pipelines.execution import ray_stream as streaming
from pipelines.prepare.settings import PrepareSettings
from pipelines.stages.write import Written

source, output, codec, workers = sys.argv[1:]
workers = int(workers)
arrivals, commits, up = [], [], []
stream, append, session = prepare.stream, Appender.append, cluster.session

def timed_stream(*arguments):
    for item in stream(*arguments):
        arrivals.append((time.time(), Written.from_table(item[2]).seconds))
        yield item

def timed_append(*arguments, **more):
    begun = time.time()
    version = append(*arguments, **more)
    commits.append((begun, time.time()))
    return version

from contextlib import contextmanager

@contextmanager
def timed_session():
    with session():
        up.append(time.time())
        yield

begun_file = Path(output + ".begun")

class Noted(streaming.Attempts):
    def begin(self, step, index):
        if not begun_file.exists():
            begun_file.write_text(str(time.time()))
        return super().begin(step, index)

prepare.stream, Appender.append, cluster.session = timed_stream, timed_append, timed_session
streaming.Attempts = Noted
plain = {"codec": {"name": codec}, "resources": {"workers": workers, "device": "cpu"}}
prepare.prepare(source, output, PrepareSettings.model_validate(plain))
done = time.time()
total = sum(seconds for _, seconds in arrivals)
steady = sum(seconds for _, seconds in arrivals[workers:])
print(json.dumps({
    "steady": steady / (arrivals[-1][0] - arrivals[workers - 1][0]),
    "total": total / (done - started),
    "audio_s": total,
    "commit_share": sum(end - begun for begun, end in commits) / (commits[-1][1] - commits[0][0]),
    "commits": len(commits),
    "ray_up_s": up[0] - started,
    "workers_loaded_s": float(begun_file.read_text()) - started,
    "first_commit_s": commits[0][1] - started,
}))
"""


def prepared(corpus: Path, folder: Path, codec: str, workers: int) -> dict[str, float]:
    """`prepare` itself, in a process of its own."""
    return child("-c", _PREPARE, str(corpus), str(folder / f"data{time.time_ns()}"), codec, str(workers))


def load_audio_ratio(corpus: Path) -> dict[str, Any]:
    """Milliseconds a file: WhisperX's `load_audio` (an ffmpeg process) against decode + resample, alternating."""
    if shutil.which("ffmpeg") is None:
        return {"skipped": "the ffmpeg program is not installed"}
    from whisperx.audio import load_audio

    from pipelines.audio.decode import decode

    paths = sorted(corpus.glob("*.wav"))[:60]
    spent = {"load_audio": 0.0, "decode": 0.0}
    for path in paths:
        for name, one in (
            ("load_audio", lambda path: load_audio(str(path))),
            ("decode", lambda path: decode(path, 16_000)),
        ):
            begun = time.perf_counter()
            one(path)
            spent[name] += time.perf_counter() - begun
    found = {f"{name}_ms": round(1000 * seconds / len(paths), 2) for name, seconds in spent.items()}
    return {**found, "ratio": round(spent["load_audio"] / spent["decode"], 1)}


_DRIVER = """
import json, resource, sys
from pipelines.prepare.job import prepare
from pipelines.prepare.settings import PrepareSettings
settings = PrepareSettings.model_validate(
    {"codec": {"name": "pcm-16khz"}, "text": {"missing": "allow"}, "resources": {"workers": 1, "device": "cpu"}}
)
result = prepare(sys.argv[1], sys.argv[2], settings)
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"recordings": result["recordings"], "driver_peak_mb": round(peak_mb, 1)}))
"""


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    corpus = folder / "corpus"
    make_corpus(corpus, arguments.minutes)
    rounds = [one_round(arguments, corpus, folder, number) for number in range(arguments.rounds)]
    memory = []
    for count in arguments.recordings:
        make_many(folder / f"many{count}", count)
        memory.append(child("-c", _DRIVER, str(folder / f"many{count}"), str(folder / f"small{count}")))
    ours = {name: middle(one["prepare"][name] for one in rounds) for name in rounds[0]["prepare"]}
    return {
        "codec": arguments.codec,
        "workers": arguments.workers,
        "rounds": arguments.rounds,
        "audio_s": round(ours["audio_s"], 1),
        "steady": of_rounds(rounds, "steady"),
        "total": of_rounds(rounds, "total"),
        "ratio_steady": {kind: ratios(rounds, "steady", "prepare", kind) for kind in WANTED},
        "ratio_total": {kind: ratios(rounds, "total", "prepare", kind) for kind in WANTED},
        "ratio_one_worker": ratios(rounds, "steady", "one worker", "bare, one worker"),
        "commit_share": round(ours["commit_share"], 5),
        **{name: round(ours[name], 1) for name in ("ray_up_s", "workers_loaded_s", "first_commit_s")},
        "load_audio": load_audio_ratio(corpus),
        "driver": memory,
        "runs": {kind: [round(one[kind]["steady"], 2) for one in rounds if kind in one] for kind in KINDS},
    }


def one_round(
    arguments: argparse.Namespace, corpus: Path, folder: Path, number: int
) -> dict[str, dict[str, float]]:
    found = {}
    for kind in KINDS[::-1] if number % 2 else KINDS:
        if number % SELDOM.get(kind, 1):
            continue
        workers = 1 if kind.endswith("one worker") else arguments.workers
        if kind in ("prepare", "one worker"):
            found[kind] = prepared(corpus, folder, arguments.codec, workers)
        else:
            found[kind] = baseline(kind.partition(",")[0], corpus, folder, arguments.codec, workers)
        print(f"{kind}: {found[kind]}", file=sys.stderr, flush=True)
    return found


def middle(values: Iterable[float]) -> float:
    return float(statistics.median(values))


def of_rounds(rounds: list[dict[str, dict[str, float]]], name: str) -> dict[str, float]:
    return {
        kind: round(middle(one[kind][name] for one in rounds if kind in one), 2)
        for kind in sorted(KINDS, key=lambda kind: kind != "prepare")
    }


def ratios(rounds: list[dict[str, dict[str, float]]], name: str, above: str, below: str) -> dict[str, float]:
    """`above` / `below`, each of the same round."""
    found = [one[above][name] / one[below][name] for one in rounds if above in one and below in one]
    return {
        "median": round(middle(found), 3),
        "least": round(min(found), 3),
        "most": round(max(found), 3),
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['audio_s'] / 60:.1f} minutes, {found['workers']} workers of one thread, {found['codec']}, "
        f"medians of {found['rounds']} rounds"
    )
    print(
        "| audio seconds per second | steady | with start-up | prepare / it, steady | least to most | wanted |"
    )
    print("|---|--:|--:|--:|--:|--:|")
    for kind, steady in found["steady"].items():
        row = [kind, steady, found["total"][kind]]
        if kind in WANTED:
            ratio = found["ratio_steady"][kind]
            wanted = f">= {WANTED[kind]}" if WANTED[kind] else ""
            row += [ratio["median"], f"{ratio['least']} to {ratio['most']}", wanted]
        print("| " + " | ".join(map(str, row)) + " |")
    one = found["ratio_one_worker"]
    print(f"\none worker / bare loop of one: {one['median']} ({one['least']} to {one['most']})")
    print(f"time in commits: {100 * found['commit_share']:.2f} %")
    print(
        f"Ray up after {found['ray_up_s']} s, a worker loaded after {found['workers_loaded_s']} s, "
        f"first commit after {found['first_commit_s']} s"
    )
    print(f"decode + resample against load_audio: {found['load_audio']}")
    print("\n| recordings | driver's peak memory, MB |\n|--:|--:|")
    for row in found["driver"]:
        print(f"| {row['recordings']} | {row['driver_peak_mb']} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes of speech to prepare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--codec", default="mill-16khz")
    parser.add_argument("--recordings", type=int, nargs="*", default=[1000, 10_000])
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-prepare-"))
    try:
        found = measure(arguments, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    show(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
