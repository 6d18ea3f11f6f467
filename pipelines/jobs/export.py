"""A dataset version for other programs: a Hugging Face directory, VALL-E's HDF5 file or tree, WebDataset tars."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from catalog.command import JobError, UsageError, local, require_absolute_under_ray_job
from catalog.datasets import Dataset
from catalog.files import clear_asides, written_aside
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.formats.interface import Export, Format, SplitTables
from pipelines.datasets.read import batches

name = "export"
help = "a dataset version for other programs"
SPLITS = ("train", "validation")
_AUDIO = ("hf", "webdataset")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of the dataset")
    parser.add_argument("output", metavar="OUTPUT", type=local, help="folder (valle-hdf5: file) to create")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS))
    parser.add_argument("--version", type=int, help="of the dataset; default: the newest")
    parser.add_argument("--split", default=",".join(SPLITS), help="default: train,validation")
    parser.add_argument("--audio", action="store_true", help=f"decoded audio, too ({', '.join(_AUDIO)})")
    parser.add_argument("--codec", help="directory of a codec that is not embedded, for --audio")
    parser.add_argument("--language", default="en", help="of rows without one, for phonemes; default: en")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="for --audio")


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Export; returns the JSON line: dataset, version, output, rows by what became of them, wall time."""
    require_absolute_under_ray_job(dataset=arguments.dataset, output=arguments.output)
    splits = _splits(arguments.split)
    if arguments.audio and arguments.format not in _AUDIO:
        raise UsageError(f"--audio: {arguments.format} has no place for audio; {', '.join(_AUDIO)} have")
    dataset = Dataset.open(arguments.dataset, arguments.version)
    _refuse_inside(dataset, arguments.output)
    context = Export(dataset.codec, arguments.language)
    if arguments.audio:
        from pipelines.datasets.decode_rows import DatasetDecoder

        context.flac = DatasetDecoder(dataset.codec, arguments.codec, arguments.device).flac
    started = time.perf_counter()
    rows = export(dataset, arguments.output, arguments.format, splits, context)
    return {
        "dataset": dataset.uri,
        "version": dataset.version,
        "output": str(arguments.output),
        "format": arguments.format,
        "rows": rows,
        "left_out": dict(context.skipped),
        "wall_s": round(time.perf_counter() - started, 3),
    }


def export(dataset: Dataset, output: Path, format_: str, splits: Sequence[str], context: Export) -> int:
    """Write the accepted rows of the splits in a format of FORMATS; returns how many.

    `output` appears when it is complete. Raises UsageError if something is there, JobError if no row is left.
    """
    module: Format = import_module(FORMATS[format_])  # type: ignore[assignment]
    _refuse_taken(output)
    clear_asides(output.parent, output.name)
    with written_aside(output) as aside:
        rows = module.write(_rows(dataset, splits), aside, context)
        if rows == 0:
            why = "; ".join(f"{count} rows: {rule}" for rule, count in context.skipped.items())
            raise JobError(f"{dataset.uri}: nothing to export in {', '.join(splits)}{why and f' ({why})'}")
        _refuse_taken(output)
    return rows


def _refuse_inside(dataset: Dataset, output: Path) -> None:
    """Refuse an output among a dataset's files, which would be taken for its own."""
    if "://" not in dataset.uri and output.resolve().is_relative_to(Path(dataset.uri).resolve()):
        raise UsageError(f"OUTPUT {output} is inside the dataset {dataset.uri}; give another place")


def _refuse_taken(output: Path) -> None:
    if output.is_symlink() or (output.exists() and not (output.is_dir() and not any(output.iterdir()))):
        raise UsageError(f"OUTPUT {output} exists; give a new path or an empty folder")


def _rows(dataset: Dataset, splits: Sequence[str]) -> SplitTables:
    for split in splits:
        for table in batches(dataset, dataset.shards(split)):
            yield split, table


def _splits(text: str) -> list[str]:
    splits = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for split in splits:
        if split not in SPLITS:
            raise UsageError(f"--split {split!r}: must be of {', '.join(SPLITS)}")
    return splits
