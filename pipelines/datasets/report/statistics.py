"""The contents of a dataset version, counted in one pass over the columns that are needed, in bounded memory."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from catalog.codes import Matrix, matrices
from catalog.datasets import Dataset, Totals
from catalog.filters import MEASURES, RATE
from catalog.schema import RECORDED
from pipelines.datasets.read import batches
from pipelines.datasets.report.distribution import Distribution
from pipelines.rows import Row, chars_per_s

_ROWS = 8192
_CODE_ROWS = 64
_MOST_NAMES = 100_000
"""Distinct speakers or folders that are counted apart; later ones are counted together."""
_EXAMPLES = 3
_CODE_FRAMES = 2_000_000
"""Enough for the perplexity of a codebook; a dataset may hold a thousand times as many."""


@dataclass
class Groups:
    """Rows and seconds by name; None for what is not known."""

    rows: Counter[str | None] = field(default_factory=Counter)
    seconds: dict[str | None, float] = field(default_factory=dict)
    others: int = 0
    """Rows of names beyond the first 100,000, counted under None."""

    def add(self, names: pa.ChunkedArray | pa.Array, seconds: pa.ChunkedArray | pa.Array) -> None:
        """Count rows; both columns have one entry per row."""
        table = pa.table({"name": names, "seconds": seconds}).group_by("name")
        counted = table.aggregate([("seconds", "sum"), ([], "count_all")]).to_pydict()
        for name, total, rows in zip(
            counted["name"], counted["seconds_sum"], counted["count_all"], strict=True
        ):
            known = name is None or name in self.rows or len(self.rows) < _MOST_NAMES
            self.others += 0 if known else rows
            key = name if known else None
            self.rows[key] += rows
            self.seconds[key] = self.seconds.get(key, 0.0) + (total or 0.0)


@dataclass
class Rejects:
    """Rejected rows of one reason, and the first different details."""

    rows: int = 0
    examples: list[tuple[str, str]] = field(default_factory=list)
    """(id, detail)."""


@dataclass
class Summary:
    """All that the page says of the rows."""

    totals: Totals
    splits: Groups = field(default_factory=Groups)
    speakers: Groups = field(default_factory=Groups)
    languages: Groups = field(default_factory=Groups)
    sources: Groups = field(default_factory=Groups)
    texts: Groups = field(default_factory=Groups)
    """By `text_source`."""
    distributions: dict[str, Distribution] = field(default_factory=dict)
    """By column of MEASURES; those that no row has are left out."""
    rejects: dict[str, Rejects] = field(default_factory=dict)
    codebooks: list[tuple[int, float]] = field(default_factory=list)
    """(entries used, perplexity) of each level; empty where the codes are samples."""
    code_frames: int = 0


@dataclass(frozen=True)
class Example:
    """One accepted row."""

    split: str
    row: Row
    codes: Matrix


def summarize(dataset: Dataset, seed: int = 0) -> Summary:
    """Count everything. `seed` picks the files whose codes are counted, where there are many."""
    summary = Summary(dataset.totals())
    summary.distributions = {one.column: Distribution(one.lowest, one.highest) for one in MEASURES}
    for split in ("train", "validation"):
        names = ["text", "speaker", "language", "source", "text_source", *summary.distributions]
        for table in batches(dataset, dataset.shards(split), names, _ROWS):
            _count(summary, split, table)
    for table in batches(dataset, dataset.shards("rejected"), ["id", "reason", "detail"], _ROWS):
        _count_rejects(summary.rejects, table)
    summary.distributions = {name: one for name, one in summary.distributions.items() if one.count}
    summary.codebooks, summary.code_frames = _codebooks(dataset, seed)
    return summary


def examples(dataset: Dataset, number: int, seed: int) -> Iterator[Example]:
    """Accepted rows drawn without replacement, the same ones for the same version and seed."""
    shards = [shard for shard in dataset.shards() if shard.split in RECORDED and shard.rows > 0]
    total = sum(shard.rows for shard in shards)
    drawn = sorted(random.Random(seed).sample(range(total), min(number, total)))
    start = 0
    for shard in shards:
        wanted = [row - start for row in drawn if start <= row < start + shard.rows]
        start += shard.rows
        position = 0
        for table in batches(dataset, [shard], rows=_CODE_ROWS) if wanted else ():
            for row in (row - position for row in wanted if position <= row < position + table.num_rows):
                one = table.slice(row, 1)
                (codes,) = matrices(one["codes"])
                if codes is not None:
                    yield Example(shard.split, one.drop_columns(["codes"]).to_pylist()[0], codes)
            position += table.num_rows
            if position > wanted[-1]:
                break


def _count(summary: Summary, split: str, table: pa.Table) -> None:
    seconds = table["duration_s"]
    summary.splits.add(pa.array([split] * table.num_rows, pa.string()), seconds)
    summary.speakers.add(table["speaker"], seconds)
    summary.languages.add(table["language"], seconds)
    summary.texts.add(table["text_source"], seconds)
    summary.sources.add(_folders(table["source"]), seconds)
    for name, distribution in summary.distributions.items():
        distribution.add(chars_per_s(table) if name == RATE.column else table[name])


def _folders(sources: pa.ChunkedArray) -> pa.ChunkedArray:
    """The folder or archive of each recording's URI."""
    return pc.replace_substring_regex(sources, r"(#.*|/[^/]*)$", "")


def _count_rejects(rejects: dict[str, Rejects], table: pa.Table) -> None:
    for reason, count in Counter(table["reason"].to_pylist()).items():
        rejects.setdefault(str(reason), Rejects()).rows += count
    for row_id, reason, detail in zip(
        table["id"].to_pylist(), table["reason"].to_pylist(), table["detail"].to_pylist(), strict=True
    ):
        found = rejects[str(reason)].examples
        if len(found) < _EXAMPLES and detail and detail not in [known for _, known in found]:
            found.append((row_id, detail))


def _codebooks(dataset: Dataset, seed: int) -> tuple[list[tuple[int, float]], int]:
    codec = dataset.codec
    if codec.codebook_size > 32768:
        return [], 0
    shards = [shard for shard in dataset.shards() if shard.split in RECORDED]
    random.Random(seed).shuffle(shards)
    counts = np.zeros((codec.n_codebooks, codec.codebook_size), np.int64)
    frames = 0
    for table in batches(dataset, shards, ["codes"], _CODE_ROWS):
        present = [codes for codes in matrices(table["codes"]) if codes is not None]
        frames += sum(codes.shape[1] for codes in present)
        for level in range(codec.n_codebooks if present else 0):
            used = np.concatenate([codes[level] for codes in present])
            counts[level] += np.bincount(used, minlength=codec.codebook_size)
        if frames >= _CODE_FRAMES:
            break
    return [(int((level > 0).sum()), _perplexity(level)) for level in counts] if frames else [], frames


def _perplexity(counts: npt.NDArray[np.int64]) -> float:
    """exp of the entropy: how many entries would carry as much if they were used equally often."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
