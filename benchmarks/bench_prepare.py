"""`prepare` against a bare loop over the same codec, and the driver's memory against the number of recordings.

The bare loop is a pool of as many processes, each with as many threads, that decodes and encodes file by file and
keeps nothing. It runs before and after `prepare`, so that other work on the machine does not decide the result.
Steady state counts from the moment when every worker has delivered; "with start-up" counts from the first line.

    python benchmarks/bench_prepare.py [--minutes 40] [--workers 2] [--recordings 1000 10000]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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
_CODEC: Any = None


def make_corpus(folder: Path, minutes: float) -> None:
    """Sentences of 2 to 12 seconds in several voices, with transcripts."""
    from pipelines.corpus import Voice, speak

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
    from pipelines.audio import write_wav

    folder.mkdir()
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 1600).astype(np.float32)
    write_wav(folder / "first.wav", noise, 16_000)
    for index in range(count - 1):
        os.link(folder / "first.wav", folder / f"{index:06d}.wav")


def load(codec: str, threads: int) -> None:
    import torch

    from models.codecs import load_codec

    global _CODEC
    torch.set_num_threads(threads)
    _CODEC = load_codec(codec)


def encode(path: Path) -> float:
    import torch

    from pipelines.audio import decode

    audio = decode(path, _CODEC.sample_rate)
    with torch.inference_mode():
        _CODEC.encode(torch.from_numpy(audio.samples)[None], torch.tensor([len(audio.samples)]))
    return audio.duration_s


def bare(folder: Path, codec: str, workers: int, threads: int) -> tuple[float, float]:
    """Audio seconds per second, without and with the start of the processes."""
    paths = sorted(folder.glob("*.wav"))
    started = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(workers, load, (codec, threads)) as pool:
        # One file each, so that every process is up.
        pool.map(encode, paths[:workers], chunksize=1)
        ready = time.perf_counter()
        seconds = sum(pool.imap_unordered(encode, paths, chunksize=1))
        done = time.perf_counter()
    return seconds / (done - ready), seconds / (done - started)


def prepared(folder: Path, output: Path, codec: str, workers: int, threads: int) -> dict[str, float]:
    """The same through `prepare`, in this process."""
    from pipelines import prepare
    from pipelines.prepare_settings import PrepareSettings
    from pipelines.stages.write import Written

    plain = {"codec": {"name": codec}, "resources": {"workers": workers, "threads": threads, "device": "cpu"}}
    settings = PrepareSettings.model_validate(plain)
    arrivals: list[tuple[float, float]] = []
    stream = prepare.stream

    def timed(*arguments: Any) -> Iterator[Any]:
        for item in stream(*arguments):
            arrivals.append((time.perf_counter(), Written.from_table(item[2]).seconds))
            yield item

    started = time.perf_counter()
    prepare.stream = timed
    try:
        prepare.prepare(str(folder), str(output), settings)
    finally:
        prepare.stream = stream
    done = time.perf_counter()
    total = sum(seconds for _, seconds in arrivals)
    steady = sum(seconds for _, seconds in arrivals[workers:])
    return {
        "steady": steady / (arrivals[-1][0] - arrivals[workers - 1][0]),
        "with_startup": total / (done - started),
        "first_result_s": arrivals[0][0] - started,
        "audio_s": total,
    }


_DRIVER = """
import json, resource, sys
from pipelines.prepare import prepare
from pipelines.prepare_settings import PrepareSettings
settings = PrepareSettings.model_validate(
    {"codec": {"name": "pcm-16khz"}, "text": {"missing": "allow"}, "resources": {"workers": 1, "device": "cpu"}}
)
result = prepare(sys.argv[1], sys.argv[2], settings)
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"recordings": result["recordings"], "driver_peak_mb": round(peak_mb, 1)}))
"""


def driver_memory(folder: Path, output: Path) -> dict[str, float]:
    """Peak resident memory of a driver in a process of its own."""
    child = subprocess.run(
        [sys.executable, "-c", _DRIVER, str(folder), str(output)],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(child.stdout.splitlines()[-1])


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    corpus = folder / "corpus"
    make_corpus(corpus, arguments.minutes)
    spread = (arguments.codec, arguments.workers, arguments.threads)
    loops = [bare(corpus, *spread)]
    ours = prepared(corpus, folder / "data", *spread)
    loops.append(bare(corpus, *spread))
    steady, with_startup = (sum(loop[at] for loop in loops) / len(loops) for at in (0, 1))
    memory = []
    for count in arguments.recordings:
        make_many(folder / f"many{count}", count)
        memory.append(driver_memory(folder / f"many{count}", folder / f"data{count}"))
    return {
        "codec": arguments.codec,
        "workers": arguments.workers,
        "threads": arguments.threads,
        "audio_s": round(ours["audio_s"], 1),
        "bare_steady": round(steady, 2),
        "prepare_steady": round(ours["steady"], 2),
        "ratio_steady": round(ours["steady"] / steady, 3),
        "bare_with_startup": round(with_startup, 2),
        "prepare_with_startup": round(ours["with_startup"], 2),
        "ratio_with_startup": round(ours["with_startup"] / with_startup, 3),
        "bare_runs": [round(loop[0], 2) for loop in loops],
        "first_result_s": round(ours["first_result_s"], 1),
        "driver": memory,
        "load_average": os.getloadavg()[0],
    }


def show(found: dict[str, Any]) -> None:
    spread = f"{found['workers']} processes of {found['threads']} threads"
    print(f"{found['audio_s'] / 60:.1f} minutes, {spread}, {found['codec']}")
    print("| audio seconds per second | steady | with start-up |")
    print("|---|--:|--:|")
    for name in ("bare", "prepare", "ratio"):
        print(f"| {name} | {found[name + '_steady']} | {found[name + '_with_startup']} |")
    print("\n| recordings | driver's peak memory, MB |")
    print("|--:|--:|")
    for row in found["driver"]:
        print(f"| {row['recordings']} | {row['driver_peak_mb']} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=40.0, help="minutes of speech to prepare")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--threads", type=int, default=1)
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
