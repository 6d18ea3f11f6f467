"""A folder that `datasets.load_dataset(FOLDER)` reads: `data/SPLIT-NNNNN.parquet` and a README.md, the dataset card."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.codes import matrices
from catalog.command import JobError, UsageError
from catalog.identity import CODEC_PROPERTY
from catalog.schema import SCHEMA
from models.identity import TokenIdentity
from pipelines.datasets.formats.interface import Export, Import, SplitTables
from pipelines.datasets.formats.rows import DESCRIPTIVE
from pipelines.datasets.formats.splits import stored_split
from pipelines.rows import Row
from pipelines.sources.interface import PARSING

FILE_BYTES = 256 << 20
"""Of a Parquet file, before compression of what is not audio."""
COLUMNS = [name for name in SCHEMA.names if name in ("codes", *DESCRIPTIVE)]
_BATCH = 256


def write(batches: SplitTables, target: Path, context: Export) -> int:
    """Create the folder. Returns the number of rows."""
    schema = _schema(context)
    (target / "data").mkdir(parents=True)
    written: dict[str, int] = {}
    file, open_split, size = None, None, 0
    number = 0
    try:
        for split, table in batches:
            if file is None or split != open_split or size >= FILE_BYTES:
                number = number + 1 if split == open_split else 0
                if file is not None:
                    file.close()
                path = target / "data" / f"{split}-{number:05d}.parquet"
                file, open_split, size = pq.ParquetWriter(path, schema, compression="zstd"), split, 0
            rows = _with_audio(table.select(COLUMNS), context).cast(schema)
            file.write_table(rows)
            size += rows.nbytes
            written[split] = written.get(split, 0) + rows.num_rows
    finally:
        if file is not None:
            file.close()
    (target / "README.md").write_text(_card(list(written), context.codec), encoding="utf-8")
    return sum(written.values())


def read(source: Path, context: Import) -> Iterator[Row]:
    """Rows in the order of the files; a row without id gets `SPLIT/NNNNNNNN`. Columns of other names are left out."""
    try:
        yield from _read(source, context)
    except (RuntimeError, *PARSING) as error:
        raise JobError(
            f"SOURCE {source}: damaged: {' '.join(str(error).split())}; nothing was imported"
        ) from error


def _read(source: Path, context: Import) -> Iterator[Row]:
    splits = _load(source)
    for path in sorted((source / "data").glob("*.parquet"))[:1]:
        said = (pq.read_schema(path).metadata or {}).get(CODEC_PROPERTY.encode())
        if said is not None:
            context.check_codec(said)
    for name in splits:
        split = stored_split(name, context.splits)
        if split is None:
            continue
        stream = splits[name]
        known = [column for column in stream.column_names or () if column in COLUMNS]
        if "codes" not in known:
            raise UsageError(
                f"SOURCE {source}: split {name!r} has no column `codes`; it has {stream.column_names}"
            )
        position = 0
        for table in stream.select_columns(known).with_format("arrow").iter(batch_size=_BATCH):
            for row in _rows(table, source):
                yield {"id": f"{name}/{position:08d}", **row, "split": split}
                position += 1


def _schema(context: Export) -> pa.Schema:
    """Arrow's, with the features that tell `datasets` which column is audio, and the codec's identity."""
    from datasets import Audio, Features

    features = Features.from_arrow_schema(pa.schema([SCHEMA.field(name) for name in COLUMNS]))
    if context.flac is not None:
        features["audio"] = Audio(sampling_rate=context.codec.sample_rate)
    schema: pa.Schema = features.arrow_schema
    metadata = {**(schema.metadata or {}), CODEC_PROPERTY.encode(): context.codec.to_json().encode()}
    return schema.with_metadata(metadata)


def _with_audio(table: pa.Table, context: Export) -> pa.Table:
    if context.flac is None:
        return table
    ids, seconds = table["id"].to_pylist(), table["duration_s"].to_pylist()
    audio = [
        None if codes is None else {"bytes": context.flac(codes, length), "path": f"{row_id}.flac"}
        for row_id, codes, length in zip(ids, matrices(table["codes"]), seconds, strict=True)
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return table.append_column("audio", pa.array(audio, kind))


def _card(splits: list[str], codec: TokenIdentity) -> str:
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in splits)
    return f"""---
configs:
- config_name: default
  data_files:
{files}
tags:
- speech
- audio-codec
---

# Codec-tokenised speech

One row per utterance; `codes` are the tokens of the codec `{codec.name}@{codec.edition}`: {codec.n_codebooks} lists of
`target_length` entries below {codec.codebook_size}, {codec.hop_length} samples per frame at {codec.sample_rate} Hz.

```json
{json.dumps(json.loads(codec.to_json()), indent=2)}
```
"""


def _load(source: Path) -> Mapping[str, Any]:
    """Split -> something that streams; nothing is copied to a cache."""
    import datasets

    if not source.is_dir():
        raise UsageError(f"SOURCE {source} is no folder; give a dataset directory")
    try:
        if (source / "dataset_dict.json").exists() or (source / "state.json").exists():
            loaded = datasets.load_from_disk(str(source))
            parts = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
            return {name: part.to_iterable_dataset() for name, part in parts.items()}
        # The builder wants a cache, in a home that may be read-only, but nothing is kept there.
        with tempfile.TemporaryDirectory() as cache:
            found: Mapping[str, Any] = datasets.load_dataset(str(source), streaming=True, cache_dir=cache)
        return found
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UsageError(f"SOURCE {source} cannot be read as a dataset directory: {error}") from error


def _rows(table: pa.Table, source: Path) -> Iterator[Row]:
    nested = pa.list_(pa.list_(pa.int64()))
    try:
        codes = matrices(table["codes"].cast(nested))
    except pa.ArrowException as error:
        raise UsageError(
            f"SOURCE {source}: column `codes` is {table['codes'].type}, must be {nested}"
        ) from error
    for row, matrix in zip(table.drop_columns(["codes"]).to_pylist(), codes, strict=True):
        yield {**{name: value for name, value in row.items() if value is not None}, "codes": matrix}
