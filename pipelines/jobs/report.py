"""One self-contained HTML page about a dataset version: hours, rejects, histograms, utterances to listen to."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from catalog.command import UsageError, require_absolute_under_ray_job
from catalog.datasets import Dataset
from catalog.files import write_bytes
from pipelines.datasets.report.page import MARK, Sound, page
from pipelines.datasets.report.statistics import examples, summarize

name = "report"
help = "a dataset version as one HTML page: hours, rejects, histograms, examples to listen to"
_LISTEN_S = 30.0
"""Longer utterances are cut, or one recording of hours would be the page."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of the dataset")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--output", type=Path, default=Path("report.html"), help="default: report.html")
    parser.add_argument("--examples", type=int, default=12, help="utterances to listen to; default: 12")
    parser.add_argument("--seed", type=int, default=0, help="which ones; default: 0")
    parser.add_argument("--codec", help="directory of a codec that is not embedded; --examples 0 needs none")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="for decoding")


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Write the page; returns the JSON line: dataset, version, output, its bytes, examples, wall time."""
    require_absolute_under_ray_job(dataset=arguments.dataset, output=arguments.output)
    if not 0 <= arguments.examples <= 1000:
        raise UsageError(f"--examples {arguments.examples}: must be 0 to 1000")
    _check_output(arguments.output)
    started = time.perf_counter()
    dataset = Dataset.open(arguments.dataset, arguments.version)
    sounds = list(_sounds(dataset, arguments))
    text = page(dataset, summarize(dataset, arguments.seed), sounds)
    write_bytes(arguments.output, text.encode("utf-8", "replace"))
    return {
        "dataset": dataset.uri,
        "version": dataset.version,
        "output": str(arguments.output),
        "size_bytes": arguments.output.stat().st_size,
        "examples": len(sounds),
        "wall_s": round(time.perf_counter() - started, 3),
    }


def _sounds(dataset: Dataset, arguments: argparse.Namespace) -> Iterator[Sound]:
    if arguments.examples == 0 or not dataset.shards("train") + dataset.shards("validation"):
        return
    from pipelines.datasets.decode_rows import DatasetDecoder

    player = DatasetDecoder(dataset.codec, arguments.codec, arguments.device)
    longest = round(_LISTEN_S * dataset.codec.frame_rate)
    for example in examples(dataset, arguments.examples, arguments.seed):
        samples = player.samples(example.codes[:, :longest], example.row["duration_s"])
        yield Sound(example.split, example.row, samples, cut=example.codes.shape[1] > longest)


def _check_output(output: Path) -> None:
    """An earlier report may be replaced, nothing else."""
    if output.is_dir():
        raise UsageError(f"--output {output} is a folder; give a file")
    if output.exists():
        with output.open("rb") as file:
            if MARK.encode() not in file.read(200):
                raise UsageError(f"--output {output} exists and is no report; give another file")
