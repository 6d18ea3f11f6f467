"""Every family says every digit in every speaker's voice; classifiers of real recordings listen.

    python -m benchmarks.bench_digits FSDD --work FOLDER [--families maskgct,...] [--minutes 16] [--seeds 3]

FSDD is a folder of the Free Spoken Digit Dataset with `metadata.csv`. Every family is trained on the same prepared
dataset for the same minutes of one thread (processor time, which other work on the machine changes little). Then it
says each of ten digits in the voice of each of six speakers, 4 requests a pair. The prompts are of the test split,
new to every training; a family that takes no prompt is judged by its digits alone. The families `..._text` train
nothing: they join networks of families before them. Real test recordings and their
resyntheses by the codec stand in the same table. `--split validation` asks with validation prompts instead, to choose
settings on; its figures are printed, not kept. All work is kept in FOLDER, and a rerun goes on where it stopped.

The last line is JSON; families are kept in benchmarks/results/digits.json, one by one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.digits_corpus import Corpus, Request, Split, prepared
from benchmarks.digits_families import FAMILIES, DigitsFamily
from benchmarks.digits_judges import Judges, Utterance, judges, rounded
from benchmarks.digits_training import EARLIER, Trained, system_at, train
from catalog.datasets import Dataset
from catalog.files import write_text
from models.codec_sources import load_codec
from models.codecs.interface import Codec
from models.system import Speech, System
from pipelines.audio.containers import Samples
from pipelines.datasets.decode_rows import to_flac

RESULTS = Path(__file__).parent / "results" / "digits.json"
EACH = 4
"""Requests for every pair of digit and speaker."""
BATCH = 60


@dataclass(frozen=True)
class Spoken:
    """Speech for all requests, with its cost."""

    utterances: list[Utterance]
    evaluations: float
    """Mean of a row."""
    real_time_factor: float
    """Seconds of processor time for a second of speech, one thread, `BATCH` rows at a time."""


def speak(
    family: DigitsFamily, system: System, corpus: Corpus, requests: Sequence[Request], seed: int
) -> Spoken:
    """Every request once; a row's randomness follows from its id and the seed."""
    waves = _waves(corpus, requests, family)
    task: Any = system.convert(family.options) if family.task == "convert" else system.speak(family.options)
    spoken: list[Speech] = []
    started = time.process_time()
    for at in range(0, len(requests), BATCH):
        batch = requests[at : at + BATCH]
        rows = [task.prepare(family.ask(request, waves)) for request in batch]
        spoken += task.run(rows, [_generator(request.id, seed) for request in batch])
    computing_s = time.process_time() - started
    pairs = list(zip(requests, spoken, strict=True))
    utterances = [_utterance(family, request, speech) for request, speech in pairs]
    speech_s = sum(len(one.wave) for one in utterances) / system.sample_rate
    evaluations = sum(speech.evaluations for speech in spoken) / len(spoken)
    return Spoken(utterances, evaluations, computing_s / speech_s)


def _waves(corpus: Corpus, requests: Sequence[Request], family: DigitsFamily) -> dict[Any, Samples]:
    needed = {request.prompt for request in requests}
    if family.task == "convert":
        needed |= {request.source for request in requests}
    ordered = sorted(needed, key=lambda one: one.file)
    return dict(zip(ordered, corpus.waves(ordered), strict=True))


def _generator(row: str, seed: int) -> torch.Generator:
    digest = hashlib.sha256(f"{row} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))


def _utterance(family: DigitsFamily, request: Request, speech: Speech) -> Utterance:
    samples = speech.wave.wave_BT[0, : int(speech.wave.lengths_B[0])].numpy()
    seconds = len(samples) / speech.wave.sample_rate
    at_the_limit = family.longest_s is not None and seconds > family.longest_s - 0.1
    runaway = speech.finish_reason == "loop" or (speech.finish_reason == "length" and at_the_limit)
    return Utterance(request.id, samples, request.digit, request.speaker, runaway)


def references(corpus: Corpus, codec: Codec, split: Split, ears: Judges) -> dict[str, Any]:
    """Figures of real recordings, and of the codec's resyntheses of them: the ceiling of every family."""
    recordings = corpus.of(split)
    real = corpus.waves(recordings)
    coded = list(_resynthesized(codec, real))

    def figures(waves: Sequence[Samples]) -> dict[str, object]:
        pairs = zip(recordings, waves, strict=True)
        return rounded(ears.judge([Utterance(one.file, wave, one.digit, one.speaker) for one, wave in pairs]))

    return {"recordings": figures(real), "codec": figures(coded)}


@torch.inference_mode()
def _resynthesized(codec: Codec, waves: Sequence[Samples]) -> Iterator[Samples]:
    for samples in waves:
        wave_1T = torch.from_numpy(samples)[None]
        made = codec.decode(codec.encode(wave_1T, torch.tensor([len(samples)])))
        yield made.wave_BT[0, : len(samples)].numpy()


def bench_family(
    family: DigitsFamily,
    corpus: Corpus,
    dataset: str,
    codec: str,
    ears: Judges,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Train, speak, judge; the family's entry of the results."""
    trained = train(family, arguments.work, dataset, arguments.minutes)
    requests = corpus.requests(arguments.split, EACH)
    curve = [
        _point(
            family, system_at(family, arguments.work, trained, codec, share), corpus, requests, ears, share
        )
        for share in (EARLIER if trained else ())
    ]
    system = system_at(family, arguments.work, trained, codec, 1)
    rounds = [speak(family, system, corpus, requests, seed) for seed in range(arguments.seeds)]
    _listen(rounds[0], system.sample_rate, arguments.work / family.name / "audio")
    figures = rounded(ears.judge([one for spoken in rounds for one in spoken.utterances]))
    if not family.prompted:
        figures |= {"speakers": None, "speakers_interval": None}
    return {
        **figures,
        "seeds": arguments.seeds,
        "evaluations": round(rounds[0].evaluations, 1),
        "real_time_factor": round(min(spoken.real_time_factor for spoken in rounds), 3),
        "curve": curve,
        **_training(trained),
        "options": dict(family.options),
    }


def _point(
    family: DigitsFamily,
    system: System,
    corpus: Corpus,
    requests: Sequence[Request],
    ears: Judges,
    share: float,
) -> dict[str, float | None]:
    found = ears.judge(speak(family, system, corpus, requests, 0).utterances)
    speakers = round(found.speakers, 4) if family.prompted else None
    return {"share": share, "digits": round(found.digits, 4), "speakers": speakers}


def _training(trained: Mapping[str, Trained]) -> dict[str, Any]:
    return {
        "minutes": round(sum(one.minutes for one in trained.values()), 2),
        "parameters": sum(one.parameters for one in trained.values()),
        "networks": {
            role: {
                "steps": one.steps,
                "minutes": round(one.minutes, 2),
                "parameters": one.parameters,
                "validation_loss": one.validation_loss,
                "model": dict(one.settings.model),
            }
            for role, one in trained.items()
        },
    }


def _listen(spoken: Spoken, sample_rate: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for one in spoken.utterances:
        (folder / f"{one.id}.flac").write_bytes(to_flac(one.wave, sample_rate))


def table(results: Mapping[str, Any]) -> str:
    """All rows as Markdown."""
    lines = [
        "| | digits % | speakers % | length | runaway % | skipped % | evaluations | real-time factor | minutes | "
        "parameters | steps |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = {"test recordings": results["recordings"], "through the codec": results["codec"]}
    for name, row in {**rows, **results["families"]}.items():
        cells = [
            name,
            *(_share(row, what) for what in ("digits", "speakers")),
            f"{row['duration_ratio']:.2f}",
        ]
        cells += [f"{100 * row[what]:.1f}" for what in ("runaways", "skips")]
        if "networks" in row:
            steps = " + ".join(str(network["steps"]) for network in row["networks"].values())
            cells += [f"{row['evaluations']:g}", f"{row['real_time_factor']:.3f}", f"{row['minutes']:.1f}"]
            cells += [f"{row['parameters'] / 1e6:.2f} M", steps]
        else:
            cells += [""] * 5
        lines.append(f"| {' | '.join(cells)} |")
    for name, row in results["families"].items():
        points = [*row["curve"], {"share": 1, **row}]
        shown = (
            f"{100 * p['share']:.0f} % {_percent(p['digits'])} / {_percent(p['speakers'])}" for p in points
        )
        lines.append(f"\n{name}, digits / speakers over the training: {', '.join(shown)}")
    return "\n".join(lines)


def _share(row: Mapping[str, Any], what: str) -> str:
    if row[what] is None:
        return _percent(None)
    low, high = row[f"{what}_interval"]
    return f"{100 * row[what]:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _percent(share: float | None) -> str:
    """None: a system that takes no voice prompt."""
    return "not judged" if share is None else f"{100 * share:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fsdd", type=Path, metavar="FSDD")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--families", default=",".join(FAMILIES), help=f"of {', '.join(FAMILIES)}")
    parser.add_argument(
        "--minutes", type=float, default=16.0, help="processor minutes that each family trains"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=("test", "validation"), default="test", help="of the prompts")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.families.split(",")) - set(FAMILIES))
    if unknown:
        parser.error(f"--families {unknown[0]}: known are {', '.join(FAMILIES)}")
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    arguments.work = arguments.work.absolute()
    arguments.work.mkdir(parents=True, exist_ok=True)
    corpus = Corpus(arguments.fsdd)
    dataset = prepared(corpus, arguments.work)
    identity = Dataset.open(dataset).codec
    codec = f"{identity.name}@{identity.edition}"
    ears = judges(corpus, arguments.work)
    results: dict[str, Any] = {
        "benchmark": "digits",
        "codec_source": codec,
        "requests": len(corpus.requests(arguments.split, EACH)),
        **references(corpus, load_codec(codec), arguments.split, ears),
        "families": {},
    }
    if arguments.split == "test" and RESULTS.exists():
        results["families"] = json.loads(RESULTS.read_text(encoding="utf-8"))["families"]
    for name in arguments.families.split(","):
        found = bench_family(FAMILIES[name], corpus, dataset, codec, ears, arguments)
        found["machine"] = {"cores": os.cpu_count(), "threads": 1, "load": [load_before, os.getloadavg()[0]]}
        results["families"][name] = found
        if arguments.split == "test":
            write_text(RESULTS, json.dumps(results, indent=1) + "\n")
    print(table(results))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
