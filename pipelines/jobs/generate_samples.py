"""Speak texts of the training data, of the held-out data and given ones: files to compare.

    OUTPUT/{train,validation}/<id>.txt, <id>.wav, and <id>_ref.wav, the recording through the dataset's codec
    OUTPUT/custom/<number>.txt, <number>.wav

The layout of toktts' generate_samples.py (alexeyrodriguez/toktts@8d67e39), for any system that needs no voice prompt.
Files of the same name are replaced.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from catalog.codes import Matrix, matrices
from catalog.command import UsageError, add_config_arguments, local, require_absolute_under_ray_job
from catalog.config import Settings, load_config, to_yaml
from catalog.datasets import Dataset
from catalog.files import write_text
from pipelines.audio.wav import write_wav
from pipelines.datasets.formats.names import to_name
from pipelines.datasets.read import batches
from pipelines.stages.speak import REQUESTS, Speak
from pipelines.stages.system import device_of

name = "generate-samples"
help = "what a model says of training, validation and given texts, beside the recordings"

_COLUMNS = ("id", "text", "language", "codes", "duration_s")


class SampleSettings(Settings):
    """Settings of the job; `sampling` goes to the system, which refuses what it does not know."""

    seed: int = Field(0, ge=0, description="the same seed, id and text give the same speech")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    batch_size: int = Field(16, ge=1, le=1024, description="sentences spoken together")
    sampling: dict[str, Any] = Field(default_factory=dict, description="options of the system")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument(
        "--model", required=True, help="models:/NAME[@ALIAS], models:/NAME/VERSION or a system directory"
    )
    parser.add_argument("--dataset", help="folder or URI of the dataset whose texts are spoken")
    parser.add_argument("--version", type=int, help="of the dataset; default: the newest")
    parser.add_argument("--limit", type=int, default=10, help="texts of each split; default: 10")
    parser.add_argument("--text", action="append", default=[], help="a text to speak; may be repeated")
    parser.add_argument("--codec", help="directory of the dataset's codec, if it is not embedded")
    parser.add_argument("-o", "--output", type=local, required=True, help="folder")
    parser.add_argument(
        "--tracking-uri", help="MLflow; default: $MLFLOW_TRACKING_URI, else sqlite:///mlflow.db"
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Speak; returns the JSON line: output, sentences, rejected by reason, finish reasons, wall time."""
    settings = load_config(SampleSettings, arguments.config, arguments.overrides)
    require_absolute_under_ray_job(output=arguments.output, dataset=arguments.dataset)
    if arguments.dataset is None and not arguments.text:
        raise UsageError("nothing to speak: give --dataset, --text or both")
    if arguments.limit < 1:
        raise UsageError(f"--limit {arguments.limit}: must be at least 1")
    requests = list(_custom(arguments.text, arguments.output))
    if arguments.dataset is not None:
        requests = [*_of_dataset(arguments, write=not arguments.dry_run), *requests]
    if arguments.dry_run:
        print(to_yaml(settings), f"sentences: {len(requests)}", sep="")  # noqa: T201
        return None
    from catalog.models import resolve

    started = time.perf_counter()
    system = str(resolve(arguments.model, arguments.tracking_uri))
    speak = Speak(system, device_of(settings.device), settings.seed, settings.sampling)
    table = pa.Table.from_pylist(requests, schema=REQUESTS)
    spoken = (speak(pa.Table.from_batches([one])) for one in table.to_batches(settings.batch_size))
    results = [row for rows in spoken for row in rows.to_pylist()]
    for request in requests:
        write_text(Path(request["output"]).with_suffix(".txt"), request["text"] + "\n")
    return {
        "output": str(arguments.output),
        "sentences": len(requests),
        "rejected": dict(Counter(row["reason"] for row in results if row["reason"])),
        "finish_reasons": dict(Counter(row["finish_reason"] for row in results if not row["reason"])),
        "wall_s": round(time.perf_counter() - started, 3),
    }


def _custom(texts: list[str], output: Path) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(texts, 1):
        path = output / "custom" / f"{number:04d}.wav"
        yield {"id": f"custom/{number}", "text": text, "output": str(path)}


def _of_dataset(arguments: argparse.Namespace, *, write: bool) -> Iterator[dict[str, Any]]:
    """Requests of the first rows of both splits; with `write` their recordings are written, too."""
    from pipelines.datasets.decode_rows import DatasetDecoder

    dataset = Dataset.open(arguments.dataset, arguments.version)
    decoder = DatasetDecoder(dataset.codec, arguments.codec) if write else None
    for split in ("train", "validation"):
        for row, codes in itertools.islice(_rows(dataset, split), arguments.limit):
            path = arguments.output / split / f"{to_name(row['id'])}.wav"
            if decoder is not None:
                samples = decoder.samples(codes, row["duration_s"])
                write_wav(path.with_name(f"{path.stem}_ref.wav"), samples, decoder.sample_rate)
            yield {
                "id": f"{split}/{row['id']}",
                "text": row["text"],
                "language": row["language"],
                "output": str(path),
            }


def _rows(dataset: Dataset, split: str) -> Iterator[tuple[dict[str, Any], Matrix]]:
    """Rows with text and codes, in the files' order; noisy copies are left out."""
    for table in batches(dataset, dataset.shards(split), _COLUMNS):
        for row, codes in zip(
            table.drop_columns(["codes"]).to_pylist(), matrices(table["codes"]), strict=True
        ):
            if row["text"] and codes is not None and "#aug" not in row["id"]:
                yield row, codes
