"""Words in phrases: how many of 60 (20 phrases of three digits) does the demo's system say so that they are recognised?

    python -m benchmarks.bench_phrases [--demo demo] [--phrases 20]

The classifier of the demo judges single words, so a phrase is cut into as many words as it should have, at the places
where the classifier is surest in sum (it does not know which words). The same judge hears espeak-ng's own recordings of
the same phrases: that figure, not 60, is the ceiling.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from catalog.models import resolve
from models.system_files import load_system
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.demo.classifier import SAMPLE_RATE, UtteranceClassifier, train_classifier
from pipelines.demo.corpus import DIGITS, synthesize_espeak
from pipelines.jobs.demo import VOICES, single_digits

RESULTS = Path(__file__).parent / "results" / "phrases.json"
STEP = SAMPLE_RATE // 25
SHORTEST, LONGEST = 4, 18
"""Of a word, in steps of 40 ms."""


def words_of(wave: Samples, count: int, judge: UtteranceClassifier) -> list[str]:
    """The `count` words of the best cut; fewer if the wave is too short."""
    steps = len(wave) // STEP
    spans = [(i, j) for i in range(steps) for j in range(i + SHORTEST, min(steps, i + LONGEST) + 1)]
    scores = (
        judge.log_probabilities([wave[i * STEP : j * STEP] for i, j in spans])
        if spans
        else torch.zeros(0, 10)
    )
    best = dict(zip(spans, zip(scores.amax(1).tolist(), scores.argmax(1).tolist(), strict=True), strict=True))
    reached: dict[int, tuple[float, list[str]]] = {0: (0.0, [])}
    for _ in range(count):
        following: dict[int, tuple[float, list[str]]] = {}
        for (begin, end), (score, word) in best.items():
            if begin in reached:
                total = reached[begin][0] + score
                if end not in following or total > following[end][0]:
                    following[end] = (total, [*reached[begin][1], DIGITS[word]])
        reached = following
    complete = [found for end, found in reached.items() if end >= steps - 3]
    return max(complete, key=lambda found: found[0])[1] if complete else []


def right(waves: Sequence[Samples], phrases: Sequence[Sequence[str]], judge: UtteranceClassifier) -> int:
    heard = [words_of(wave, len(phrase), judge) for wave, phrase in zip(waves, phrases, strict=True)]
    return sum(
        a == b for one, said in zip(heard, phrases, strict=True) for a, b in zip(one, said, strict=False)
    )


def recordings(phrases: Sequence[Sequence[str]], draw: random.Random) -> list[Samples]:
    waves = []
    for phrase in phrases:
        pcm, rate = synthesize_espeak(" ".join(phrase), draw.choice(VOICES))
        waves.append(resample(np.frombuffer(pcm, np.int16).astype(np.float32) / 32768, rate, SAMPLE_RATE))
    return waves


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--demo", type=Path, default=Path("demo"), help="folder that `make demo` left")
    parser.add_argument("--phrases", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = random.Random(5)
    phrases = [draw.choices(DIGITS, k=3) for _ in range(arguments.phrases)]
    judge = train_classifier(*single_digits(arguments.demo / "recordings"), DIGITS)
    system = load_system(
        resolve("models:/maskgct@champion", f"sqlite:///{arguments.demo.resolve()}/mlflow.db")
    )
    texts = [" ".join(phrase) for phrase in phrases]
    spoken = system.synthesize(texts, generator=torch.Generator().manual_seed(0))
    waves = [wave.wave_BT[0, : int(wave.lengths_B[0])].numpy() for wave in spoken]
    result = {
        "benchmark": "phrases",
        "words": 3 * len(phrases),
        "recordings": right(recordings(phrases, draw), phrases, judge),
        "synthesized": right(waves, phrases, judge),
    }
    print("| words in phrases of three digits | recognised |\n|---|--:|")
    print(f"| espeak-ng's recordings | {result['recordings']} of {result['words']} |")
    print(f"| spoken by the trained system | {result['synthesized']} of {result['words']} |")
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
