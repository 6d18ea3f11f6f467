"""The table of an evaluation: pooled figures of references, codec round trip and system, with intervals over sentences.

Draws of one sentence (seeds) are not independent, so they are resampled together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from models.metrics.bootstrap import bootstrap_interval
from pipelines.rows import Row

RUNAWAY, SKIPPED = 0.5, 0.5
"""Words inserted, or deleted, above this share of the text's words make a sentence one of these."""

Weighted = tuple[float, float] | None
"""A row's value and its weight; None where it has none."""


@dataclass(frozen=True)
class Figure:
    """A mean, its 95 % interval, and the number of recordings that it is of."""

    value: float
    low: float
    high: float
    recordings: int


@dataclass(frozen=True)
class Measure:
    """A figure of the table."""

    title: str
    of: Callable[[Row], Weighted]
    worse: int
    """1 where a higher figure is worse, -1 where a lower one is, 0 where neither is."""
    percent: bool = False


def _rate(unit: str) -> Callable[[Row], Weighted]:
    def errors(row: Row) -> Weighted:
        counts = row.get(unit)
        if not counts or not counts["length"]:
            return None
        wrong = counts["substitutions"] + counts["deletions"] + counts["insertions"]
        return wrong / counts["length"], float(counts["length"])

    return errors


def _mean(name: str) -> Callable[[Row], Weighted]:
    return lambda row: None if row.get(name) is None else (float(row[name]), 1.0)


def _runaway(row: Row) -> Weighted:
    return _share(row, "insertions", RUNAWAY, row.get("finish_reason") == "loop")


def _skipped(row: Row) -> Weighted:
    return _share(row, "deletions", SKIPPED)


def _share(row: Row, edits: str, limit: float, certain: bool = False) -> Weighted:
    counts = row.get("words")
    if not counts or not counts["length"]:
        return None
    return float(certain or counts[edits] > limit * counts["length"]), 1.0


def _real_time(row: Row) -> Weighted:
    wall_s, duration_s = row.get("wall_s"), row.get("duration_s")
    return (wall_s / duration_s, duration_s) if wall_s is not None and duration_s else None


MEASURES: Mapping[str, Measure] = {
    "wer": Measure("word error rate", _rate("words"), 1, percent=True),
    "cer": Measure("character error rate", _rate("characters"), 1, percent=True),
    "speaker_similarity": Measure("speaker similarity", _mean("speaker_similarity"), -1),
    "dnsmos": Measure("DNSMOS", _mean("dnsmos"), -1),
    "mel_cepstral_distance": Measure("mel-cepstral distance (dB)", _mean("mel_cepstral_distance"), 1),
    "f0_correlation": Measure("F0 correlation", _mean("f0_correlation"), -1),
    "duration_ratio": Measure("duration ratio", _mean("duration_ratio"), 0),
    "runaway_rate": Measure("runaway", _runaway, 1, percent=True),
    "skip_rate": Measure("skipped", _skipped, 1, percent=True),
    "real_time_factor": Measure("real-time factor", _real_time, 1),
}


def table(
    groups: Mapping[str, Sequence[Row]], seed: int = 0, resamples: int = 2000
) -> dict[str, dict[str, Figure]]:
    """Figures by row of the table and measure; a figure that no recording has is left out.

    Rows with a `reason` do not count. ValueError for judgements of different recognisers.
    """
    rows = [row for group in groups.values() for row in group if row["reason"] is None]
    recognisers = sorted({str(row["recogniser"]) for row in rows})
    if len(recognisers) > 1:
        raise ValueError(
            f"word errors of {' and '.join(recognisers)} in one table; judge all with one recogniser"
        )
    return {name: _figures(group, seed, resamples) for name, group in groups.items()}


def _figures(rows: Sequence[Row], seed: int, resamples: int) -> dict[str, Figure]:
    good = [row for row in rows if row["reason"] is None]
    found: dict[str, Figure] = {}
    for name, measure in MEASURES.items():
        pairs = [(row["id"], pair) for row in good if (pair := measure.of(row)) is not None]
        if not pairs:
            continue
        values, weights = [pair[0] for _, pair in pairs], [pair[1] for _, pair in pairs]
        generator = torch.Generator().manual_seed(seed)
        low, high = bootstrap_interval(
            values, [sentence for sentence, _ in pairs], generator, resamples=resamples, weights=weights
        )
        total = sum(value * weight for value, weight in zip(values, weights, strict=True))
        found[name] = Figure(total / sum(weights), low, high, len(pairs))
    return found


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Judged rows by word errors, then speaker similarity: those that went worst first."""

    def badness(row: Row) -> tuple[float, float, str]:
        errors = _rate("words")(row)
        likeness = row.get("speaker_similarity")
        return (-(errors[0] if errors else 0.0), 1.0 if likeness is None else likeness, str(row["id"]))

    return sorted((row for row in rows if row["reason"] is None), key=badness)
