"""Codec-tokenised speech of other programs -> a committed dataset. A rerun adds nothing.

The whole source becomes one commit: the utterances of a recording may lie anywhere in it, and a recording is committed
whole or not at all.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from catalog import creation
from catalog.appending import Appender
from catalog.command import JobError, UsageError, require_absolute_under_ray_job
from catalog.datasets import Dataset, summary
from catalog.reasons import Reason
from catalog.runs import marked_run
from catalog.schema import SCHEMA, Shard
from catalog.shards import read_columns, write_shard
from models.identity import TokenIdentity
from pipelines.datasets.formats import FORMATS
from pipelines.datasets.formats.interface import Import
from pipelines.datasets.formats.rows import check, rejected, to_table
from pipelines.datasets.isolated_reader import read_isolated
from pipelines.rows import Row

name = "import-shards"
help = "codec-tokenised speech of other programs -> a committed dataset"
SETTINGS = {"job": name}
"""Imports of every format may share a dataset; prepared rows may not join them."""
_FILE_BYTES = 64 << 20
_FILE_ROWS = 20_000
_PEEK_ROWS = 1000
_TEXT = [field.name for field in SCHEMA if str(field.type) == "string"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="SOURCE", type=Path, help="folder or file of that format")
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of the dataset to make or add to")
    parser.add_argument("--format", required=True, choices=tuple(FORMATS))
    parser.add_argument(
        "--codec",
        required=True,
        help="codec name, NAME@EDITION, directory, or a codec.json that describes one",
    )
    parser.add_argument("--split", help="the source's splits to import, by comma; default: all")


def run(arguments: argparse.Namespace) -> Mapping[str, object]:
    """Import; returns the JSON line: totals of the dataset, what is new, rejects by reason, wall time."""
    require_absolute_under_ray_job(source=arguments.source, dataset=arguments.dataset)
    if not arguments.source.exists():
        raise UsageError(f"SOURCE {str(arguments.source)!r} does not exist")
    if "://" not in arguments.dataset and _is_inside(Path(arguments.dataset), arguments.source):
        raise UsageError(
            f"DATASET {arguments.dataset} is inside SOURCE {arguments.source}; give another place"
        )
    splits = [part.strip() for part in arguments.split.split(",")] if arguments.split else None
    context = Import(_identity(arguments.codec), splits)
    started = time.perf_counter()
    creation.exists(arguments.dataset)
    counts = import_rows(
        read_isolated(arguments.format, arguments.source, context), arguments.dataset, context.codec
    )
    return {
        **summary(Dataset.open(arguments.dataset)),
        "new_rows": sum(counts.values()),
        "new_rejected": {reason: count for reason, count in counts.items() if reason},
        "wall_s": round(time.perf_counter() - started, 3),
    }


def _is_inside(path: Path, folder: Path) -> bool:
    """True for a place below a folder, whose files a later import would take for the source's."""
    return path.resolve() != folder.resolve() and path.resolve().is_relative_to(folder.resolve())


def import_rows(rows: Iterable[Row], dataset_uri: str, codec: TokenIdentity) -> Counter[str]:
    """Commit the rows that the dataset does not have yet; returns how many, by reason ("" for accepted ones).

    Raises JobError, and makes nothing, where each of the first rows breaks a rule.
    """
    fit = _some_fit(map(_named, rows), codec)
    dataset = creation.create(dataset_uri, codec, SETTINGS)
    appender = Appender(dataset)
    with marked_run(dataset) as run_id:
        shards: list[Shard] = []
        for batch in _batches(_new(fit, appender, codec)):
            shards += write_shard(to_table(batch), dataset.uri, run_id, codec)
        appender.append(shards)
        return _committed(appender.dataset, run_id)


def _committed(dataset: Dataset, run_id: str) -> Counter[str]:
    """Rows of a run by reason: what another import committed first is not among them."""
    ours = [shard for shard in dataset.files if shard.run_id == run_id]
    accepted = sum(shard.rows for shard in ours if shard.split != "rejected")
    rejected = [shard for shard in ours if shard.split == "rejected"]
    reasons = read_columns(dataset.storage, rejected, ["reason"])["reason"].to_pylist()
    return Counter({"": accepted} if accepted else {}) + Counter(reasons)


def _named(row: Row) -> Row:
    """With a recording id; numbers that stand for names, such as LibriSpeech's speakers, are text."""
    row = {key: str(value) if key in _TEXT and type(value) is int else value for key, value in row.items()}
    row["id"] = str(row["id"])
    row["recording_id"] = str(row.get("recording_id") or row["id"])
    return row


def _some_fit(rows: Iterable[Row], codec: TokenIdentity) -> Iterator[Row]:
    """The same rows; JobError where none of the first ones is acceptable, so that no dataset is made of a mistake."""
    rows = iter(rows)
    seen: list[Row] = []
    example = "it holds no rows"
    for row in rows:
        seen.append(row)
        checked = check(row, codec)
        if checked.get("reason") is None:
            return chain(seen, rows)
        example = f"the last one, {row['id']}: {checked['detail']}"
        if len(seen) == _PEEK_ROWS:
            break
    raise JobError(f"none of the source's first {len(seen)} rows can be imported; {example}")


def _new(rows: Iterable[Row], appender: Appender, codec: TokenIdentity) -> Iterator[Row]:
    """Checked rows of recordings that are not committed; an id that is taken is rejected as `id#2`."""
    committed = set(appender.committed()["recording_id"].to_pylist())
    taken = set(appender.dataset.read(["id"])["id"].to_pylist())
    again: Counter[str] = Counter()
    for row in rows:
        if row["recording_id"] in committed:
            continue
        row = check(row, codec)
        if row["id"] in taken:
            again[row["id"]] += 1
            name_ = f"{row['id']}#{again[row['id']] + 1}"
            if name_ in committed:
                continue
            detail = f"the source has {row['id']} more than once, or the dataset has it of another recording"
            row = rejected({**row, "id": name_, "recording_id": name_}, Reason.DUPLICATE_ID, detail)
        taken.add(row["id"])
        yield row


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """As many rows as make a file."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += row["codes"].nbytes if row["codes"] is not None else 0
        if size >= _FILE_BYTES or len(batch) >= _FILE_ROWS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _identity(codec: str) -> TokenIdentity:
    """Of a codec that can be loaded, or of one that a JSON file describes (EnCodec's tokens, say)."""
    path = Path(codec)
    if path.suffix == ".json" and path.is_file():
        try:
            return TokenIdentity.from_json(path.read_text(encoding="utf-8"))
        except (TypeError, ValueError) as error:
            fields = ", ".join(TokenIdentity.__dataclass_fields__)
            raise UsageError(f"--codec {codec}: must be a JSON object of {fields}: {error}") from error
    from models.codec_sources import load_codec
    from models.codecs.interface import identity_of

    try:
        return identity_of(load_codec(codec))
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(f"--codec: {error}, or a codec.json that describes another one") from error
