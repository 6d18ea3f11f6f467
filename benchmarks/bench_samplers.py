"""Network evaluations against recognised words: one system with several sets of sampling options.

    python -m benchmarks.bench_samplers SYSTEM --demo demo [--sets FILE] [--seeds 3]
    python -m benchmarks.bench_samplers SYSTEM --digits FSDD --work FOLDER [--family soundstorm] [--split validation]

SYSTEM is a system's directory. `--demo` (the folder that `make demo` left) asks for phrases of three digits and lets
the ear of bench_phrases judge them; `--digits` (the Free Spoken Digit Dataset) asks as bench_digits asks `--family`,
for single digits in the voices of prompts, spoken or converted (any with `--convert`), and its ears, kept in `--work`,
judge words and voices.
FILE is JSON: a name and the options of each set, the first one being what the others are compared with; without it the
sets are the presets `best` and `fast`.

Every set speaks the same requests with the same seeds. With the first seed they come one by one, which gives a
request's own evaluations and times (processor seconds of one thread, relative to the first set); with the others in
batches, on which no row's speech depends. The sets take turns, seed after seed: other work on the machine disturbs all
of them alike. A difference is of the same requests and seeds; intervals are 95 % bootstrap intervals over requests.

The last line is JSON; systems are kept in benchmarks/results/samplers.json under the name of their requests.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.bench_digits import BATCH, _generator, _waves
from benchmarks.bench_phrases import words_of
from benchmarks.digits_corpus import Corpus, Split
from benchmarks.digits_families import FAMILIES, DigitsFamily
from benchmarks.digits_judges import judges
from catalog.files import write_text
from models.metrics.bootstrap import bootstrap_interval
from models.system import ConvertRequest, SpeakRequest, Speech, System
from models.system_files import load_system
from pipelines.audio.containers import Samples
from pipelines.demo.classifier import train_classifier
from pipelines.demo.corpus import DIGITS
from pipelines.jobs.demo import single_digits

RESULTS = Path(__file__).parent / "results" / "samplers.json"
SETS: Mapping[str, Mapping[str, Any]] = {name: {"preset": name} for name in ("best", "fast")}


@dataclass(frozen=True)
class Task:
    """Requests with their ids, and the ears that judge their answers: by measure, the share that is right of each."""

    name: str
    ids: Sequence[str]
    requests: Sequence[SpeakRequest | ConvertRequest]
    judge: Callable[[Sequence[Samples]], Mapping[str, Sequence[float]]]


@dataclass
class Heard:
    """Figures of one set of options so far."""

    computing_s: float = 0.0
    evaluations: list[float] = field(default_factory=list)
    right: dict[str, list[float]] = field(default_factory=dict)

    def add(self, right: Mapping[str, Sequence[float]]) -> None:
        for measure, shares in right.items():
            self.right.setdefault(measure, []).extend(shares)


def demo_phrases(demo: Path, count: int) -> Task:
    """Phrases of three digits, in no voice that is asked for."""
    draw = random.Random(7)
    phrases = [draw.choices(DIGITS, k=3) for _ in range(count)]
    ear = train_classifier(*single_digits(demo / "recordings"), DIGITS)

    def judge(waves: Sequence[Samples]) -> Mapping[str, Sequence[float]]:
        heard = [words_of(wave, len(said), ear) for wave, said in zip(waves, phrases, strict=True)]
        pairs = [zip(one, said, strict=False) for one, said in zip(heard, phrases, strict=True)]
        return {"words": [sum(a == b for a, b in words) / 3 for words in pairs]}

    ids = [f"{at}-{'-'.join(phrase)}" for at, phrase in enumerate(phrases)]
    return Task("demo", ids, [SpeakRequest(" ".join(phrase), "en") for phrase in phrases], judge)


def spoken_digits(fsdd: Path, work: Path, split: Split, each: int, family: DigitsFamily) -> Task:
    """Single digits in the voices of six speakers."""
    corpus = Corpus(fsdd)
    requests, ears = corpus.requests(split, each), judges(corpus, work)
    waves = _waves(corpus, requests, family)

    def judge(made: Sequence[Samples]) -> Mapping[str, Sequence[float]]:
        heard = zip(ears.digits.hear(made), ears.speakers.hear(made), requests, strict=True)
        right = [(float(digit == one.digit), float(speaker == one.speaker)) for digit, speaker, one in heard]
        return {"words": [word for word, _ in right], "voices": [voice for _, voice in right]}

    questions = [family.ask(one, waves) for one in requests]
    name = f"{family.name}, digits {'converted ' if family.task == 'convert' else ''}({split})"
    return Task(name, [one.id for one in requests], questions, judge)


def speak(system: System, options: Mapping[str, Any], given: Task, seed: int, heard: Heard) -> None:
    """Answer every request once; a row's randomness follows from its id and the seed."""
    size = BATCH if seed else 1
    converts = isinstance(given.requests[0], ConvertRequest)
    task: Any = system.convert(options) if converts else system.speak(options)
    spoken: list[Speech] = []
    started = time.process_time()
    for at in range(0, len(given.ids), size):
        prepared = [task.prepare(request) for request in given.requests[at : at + size]]
        spoken += task.run(prepared, [_generator(name, seed) for name in given.ids[at : at + size]])
    if size == 1:
        heard.computing_s = time.process_time() - started
        heard.evaluations = [float(one.evaluations) for one in spoken]
    heard.add(given.judge([one.wave.wave_BT[0, : int(one.wave.lengths_B[0])].numpy() for one in spoken]))


def measured(
    system: System, sets: Mapping[str, Mapping[str, Any]], given: Task, seeds: int
) -> Iterator[dict[str, Any]]:
    """The rows of all sets after every seed."""
    heard = {name: Heard() for name in sets}
    for seed in range(seeds):
        for name, options in sets.items():
            speak(system, options, given, seed, heard[name])
        first = next(iter(heard.values()))
        yield {name: {**row(one, first, given.ids), "options": sets[name]} for name, one in heard.items()}


def row(heard: Heard, first: Heard, ids: Sequence[str]) -> dict[str, Any]:
    """The figures of one set, `first` being what it is compared with."""
    found: dict[str, Any] = {
        "evaluations": round(sum(heard.evaluations) / len(heard.evaluations), 2),
        "time": round(heard.computing_s / first.computing_s, 3),
    }
    for measure, shares in heard.right.items():
        clusters = list(ids) * (len(shares) // len(ids))
        less = [a - b for a, b in zip(shares, first.right[measure], strict=True)]
        found[measure] = _with_interval(shares, clusters)
        found[f"{measure}_difference"] = _with_interval(less, clusters)
    return found


def _with_interval(values: Sequence[float], clusters: Sequence[str]) -> list[float]:
    low, high = bootstrap_interval(values, clusters, torch.Generator().manual_seed(0))
    return [round(value, 4) for value in (sum(values) / len(values), low, high)]


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """All sets as Markdown."""
    measures = [name for name in next(iter(rows.values())) if name not in ("evaluations", "time")]
    lines = [f"| options | evaluations | time | {' | '.join(f'{one} %' for one in measures)} |"]
    lines.append("|---|--:|--:|" + "--:|" * len(measures))
    for name, figures in rows.items():
        shares = ["{:.1f} ({:.1f} to {:.1f})".format(*(100 * x for x in figures[one])) for one in measures]
        lines.append(
            f"| {name} | {figures['evaluations']:g} | {figures['time']:.2f} | {' | '.join(shares)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("system", type=Path, metavar="SYSTEM")
    requests = parser.add_mutually_exclusive_group(required=True)
    requests.add_argument("--demo", type=Path, help="folder that `make demo` left")
    requests.add_argument("--digits", type=Path, metavar="FSDD", help="folder of the corpus")
    parser.add_argument("--work", type=Path, help="with --digits: where its ears are, or are kept")
    parser.add_argument(
        "--family", choices=sorted(FAMILIES), default="maskgct", help="of SYSTEM, with --digits"
    )
    parser.add_argument(
        "--convert", action="store_true", help="with --digits: from another speaker's recording"
    )
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="of the prompts")
    parser.add_argument("--phrases", type=int, default=100, help="with --demo")
    parser.add_argument("--each", type=int, default=4, help="with --digits: requests a digit and speaker")
    parser.add_argument("--sets", type=Path, metavar="FILE", help="JSON, name -> options")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.digits and arguments.work is None:
        parser.error("--digits needs --work")
    torch.set_num_threads(1)
    sets = json.loads(arguments.sets.read_text(encoding="utf-8")) if arguments.sets else SETS
    if arguments.demo:
        given = demo_phrases(arguments.demo, arguments.phrases)
    else:
        family = FAMILIES[arguments.family]
        if arguments.convert:
            family = replace(family, task="convert")
        given = spoken_digits(arguments.digits, arguments.work, arguments.split, arguments.each, family)
    system = load_system(arguments.system)
    load_before = os.getloadavg()[0]
    for seed, rows in enumerate(measured(system, sets, given, arguments.seeds)):
        print(table({name: {k: v for k, v in one.items() if k != "options"} for name, one in rows.items()}))
        found = {
            "requests": len(given.ids),
            "seeds": seed + 1,
            "machine": {"cores": os.cpu_count(), "threads": 1, "load": [load_before, os.getloadavg()[0]]},
            "sets": rows,
        }
        keep(given.name, found)
    print(json.dumps(found))


def keep(name: str, found: Mapping[str, Any]) -> None:
    """Put the figures of one kind of requests into the results."""
    kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"benchmark": "samplers"}
    kept.setdefault("systems", {})[name] = found
    write_text(RESULTS, json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
