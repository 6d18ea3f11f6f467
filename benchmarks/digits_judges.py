"""The ears of bench_digits: classifiers of digits and of speakers, trained on real training recordings, and what they
find in a set of utterances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.digits_corpus import Corpus
from models.metrics.bootstrap import bootstrap_interval
from pipelines.audio.containers import Samples
from pipelines.demo.classifier import SAMPLE_RATE, UtteranceClassifier, train_classifier
from pipelines.demo.corpus import DIGITS

NETWORKS, STEPS = 3, 1000
"""Each ear is three networks, which add their log-probabilities: a single one hears some codecs 3 points worse."""
QUIET, SHORTEST_S = 10 ** (-50 / 20), 0.1
"""A skipped word: no sample above -50 dBFS, or less sound within 35 dB of the loudest than this."""


@dataclass(frozen=True)
class Ear:
    """Several classifiers of the same classes."""

    networks: tuple[UtteranceClassifier, ...]

    def hear(self, waves: Sequence[Samples]) -> list[str]:
        """The class of each wave."""
        scores_BC = torch.stack([network.log_probabilities(waves) for network in self.networks]).sum(0)
        return [self.networks[0].classes[index] for index in scores_BC.argmax(1).tolist()]


@dataclass(frozen=True)
class Utterance:
    """Something that should be a digit in a speaker's voice."""

    id: str
    """Draws of the same request share it."""
    wave: Samples
    digit: str
    speaker: str
    runaway: bool = False


@dataclass(frozen=True)
class Figures:
    """Figures of both classifiers; intervals are 95 % bootstrap intervals over requests."""

    utterances: int
    digits: float
    digits_interval: tuple[float, float]
    speakers: float
    speakers_interval: tuple[float, float]
    duration_ratio: float
    """Mean of the length over the mean length of the speaker's real recordings of that digit."""
    runaways: float
    skips: float


@dataclass(frozen=True)
class Judges:
    """Both ears, and how long the speakers take for each digit."""

    digits: Ear
    speakers: Ear
    durations_s: Mapping[tuple[str, str], float]

    def judge(self, utterances: Sequence[Utterance]) -> Figures:
        """Figures of a set of utterances."""
        waves = [one.wave for one in utterances]
        heard = zip(self.digits.hear(waves), self.speakers.hear(waves), utterances, strict=True)
        right = [(digit == one.digit, speaker == one.speaker) for digit, speaker, one in heard]
        clusters = [one.id for one in utterances]
        digits, speakers = ([float(pair[at]) for pair in right] for at in (0, 1))
        ratios = [
            len(one.wave) / SAMPLE_RATE / self.durations_s[one.speaker, one.digit] for one in utterances
        ]
        return Figures(
            utterances=len(utterances),
            digits=float(np.mean(digits)),
            digits_interval=_interval(digits, clusters),
            speakers=float(np.mean(speakers)),
            speakers_interval=_interval(speakers, clusters),
            duration_ratio=float(np.mean(ratios)),
            runaways=float(np.mean([one.runaway for one in utterances])),
            skips=float(np.mean([_skipped(wave) for wave in waves])),
        )


def _interval(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    return bootstrap_interval(values, clusters, torch.Generator().manual_seed(0))


def _skipped(wave: Samples) -> bool:
    blocks = np.abs(wave[: len(wave) // 160 * 160]).reshape(-1, 160)
    if not blocks.size or blocks.max() < QUIET:
        return True
    level = np.sqrt((blocks**2).mean(1))
    return bool((level > level.max() * 10 ** (-35 / 20)).sum() * 0.01 < SHORTEST_S)


def judges(corpus: Corpus, work: Path) -> Judges:
    """The ears, trained once and kept in the work folder."""
    path = work / "ears.pt"
    if not path.exists():
        recordings = corpus.of("train")
        waves = corpus.waves(recordings)
        digits = _train(waves, [one.digit for one in recordings], DIGITS)
        speakers = _train(waves, [one.speaker for one in recordings], corpus.speakers)
        torch.save((digits, speakers), path.with_suffix(".part"))
        path.with_suffix(".part").rename(path)
    digits, speakers = torch.load(path, weights_only=False)  # our own file
    return Judges(digits, speakers, corpus.mean_duration_s())


def _train(waves: Sequence[Samples], labels: Sequence[str], classes: Sequence[str]) -> Ear:
    return Ear(
        tuple(train_classifier(waves, labels, classes, seed=seed, steps=STEPS) for seed in range(NETWORKS))
    )


def rounded(figures: Figures) -> dict[str, object]:
    """As JSON."""
    found: dict[str, object] = {}
    for name, value in asdict(figures).items():
        several = isinstance(value, tuple)
        found[name] = [round(one, 4) for one in value] if several else round(value, 4)
    return found
