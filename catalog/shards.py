"""One Parquet file of a dataset: written aside, flushed, digested; read back with every check there is."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.identity import CODEC_PROPERTY, COLUMNS_PROPERTY, Columns, Identity, columns_to_json
from catalog.recordings import pack_keys
from catalog.rules import check_columns, check_rows
from catalog.schema import SCHEMA, SPLITS, TOKEN_COLUMNS, Shard
from catalog.storage import Storage, open_storage
from catalog.token_columns import check_column
from models.identity import TokenIdentity

_READERS = 8
_OUR_NAME = re.compile(
    r"split=(?P<split>[a-z]+)/\.?part-(?P<run>[A-Za-z0-9_.]+)-[0-9a-f]{32}\.parquet(\.[0-9a-f]{32}\.tmp)?"
)


def write_shard(
    table: pa.Table, dataset_uri: str, run_id: str, codec: TokenIdentity, columns: Columns | None = None
) -> list[Shard]:
    """Write a batch of utterance rows, one new file per split present, and describe the files.

    `table` has `split` and any columns of SCHEMA; absent ones become null. `columns` names the makers of the token
    columns that have values. The files are durable when this returns and count for nothing until `Appender.append` has
    them. Raises ValueError for rows that break a rule, JobError when the disk refuses.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.]+", run_id):
        raise ValueError(f"run id {run_id!r}: only letters, digits, _ and . are allowed")
    if "split" not in table.column_names:
        raise ValueError("the table has no split column")
    unknown = sorted(set(pc.unique(table["split"]).to_pylist()) - set(SPLITS), key=str)
    if unknown:
        raise ValueError(f"split is {unknown[0]!r}, must be one of {', '.join(SPLITS)}")
    columns = columns or {}
    rows = _conform(table, columns)
    storage = open_storage(dataset_uri)
    parts = {split: rows.filter(pc.equal(table["split"], split)) for split in SPLITS}
    for split, part in parts.items():
        for problem in check_rows(part, split, codec, columns):
            raise ValueError(f"split {split}: {problem}")
    return [
        write_part(storage, part, split, run_id, codec, columns)
        for split, part in parts.items()
        if part.num_rows
    ]


def write_part(
    storage: Storage, rows: pa.Table, split: str, run_id: str, codec: TokenIdentity, columns: Columns
) -> Shard:
    """Write rows of SCHEMA as one file of one split; its metadata name the makers of its codes and token columns."""
    metadata = {CODEC_PROPERTY: codec.to_json()}
    if columns:
        metadata[COLUMNS_PROPERTY] = columns_to_json(columns)
    rows = rows.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    pq.write_table(rows, sink, compression="zstd", write_page_checksum=True)
    data = sink.getvalue()
    path = f"split={split}/part-{run_id}-{uuid.uuid4().hex}.parquet"
    storage.write(path, data)
    return Shard(
        path=path,
        split=split,
        rows=rows.num_rows,
        size_bytes=data.size,
        sha256=hashlib.sha256(data).hexdigest(),
        recordings=pc.count_distinct(rows["recording_id"]).as_py(),
        seconds=float(pc.sum(rows["duration_s"]).as_py() or 0.0),
        run_id=run_id,
        codec_digest=codec.digest,
        recording_keys=pack_keys(rows["recording_id"]),
        columns=json.dumps({name: columns[name].digest for name in sorted(columns)}) if columns else "",
    )


def stated_columns(shard: Shard, identity: Identity) -> Columns:
    """Token columns of the dataset that the file has."""
    return {name: identity.columns[name] for name in shard.column_digests if name in identity.columns}


def run_id_of(path: str) -> str | None:
    """The run that wrote a file (or the temporary file) of our own name pattern; None for anyone else's."""
    match = _OUR_NAME.fullmatch(path)
    return match["run"] if match and match["split"] in SPLITS else None


def read_shard(storage: Storage, shard: Shard) -> pa.Table:
    """All rows with all columns of SCHEMA (null where an older file lacks one).

    Raises JobError if the file is missing, its bytes are not those that were committed, or it has other columns.
    """
    problems, table = _load(storage, shard)
    if table is not None and not (problems := check_columns(table.schema)):
        return _complete(table)
    raise JobError(f"{storage.uri}/{shard.path}: {problems[0]}")


def damage(storage: Storage, shard: Shard) -> str | None:
    """The fault by which the rows of a committed file are lost (missing, other bytes than were committed), or None.

    Raises JobError where this cannot be determined now.
    """
    try:
        problems, table = _load(storage, shard)
    except OSError as error:
        raise JobError(f"{storage.uri}/{shard.path}: cannot be read: {error.strerror or error}") from error
    return problems[-1] if table is None else None


def check_shard(storage: Storage, shard: Shard, identity: Identity) -> tuple[list[str], pa.Table | None]:
    """Everything wrong with one committed file, and its rows where they can be read."""
    try:
        problems, table = _load(storage, shard)
    except OSError as error:  # a bad sector, a right that is missing
        return [f"cannot be read: {error.strerror or error}"], None
    if table is None:
        return problems, None
    if table.num_rows != shard.rows:
        problems.append(f"{table.num_rows} rows, the log says {shard.rows}")
    columns = check_columns(table.schema)
    if columns:
        return [*problems, *columns], None
    problems += _check_makers(table.schema.metadata or {}, shard, identity)
    rows = _complete(table)
    problems += [
        f"{rows[name].null_count} rows have no {name}"
        for name in ("id", "recording_id")
        if rows[name].null_count
    ]
    return problems + _check_recordings(rows, shard) + check_rows(
        rows, shard.split, identity.codec, stated_columns(shard, identity)
    ), rows


def read_columns(storage: Storage, shards: Sequence[Shard], columns: Sequence[str]) -> pa.Table:
    """Some columns of many files (null where an older file lacks one), without their digests being checked."""
    if not shards:
        return pa.schema([SCHEMA.field(name) for name in columns]).empty_table()
    # Files wait for the disk, or for an object store's answer, at the same time.
    with ThreadPoolExecutor(_READERS) as pool:
        return pa.concat_tables(pool.map(partial(_read_columns, storage, columns=columns), shards))


def _read_columns(storage: Storage, shard: Shard, columns: Sequence[str]) -> pa.Table:
    try:
        with storage.open(shard.path) as opened:
            file = pq.ParquetFile(opened)
            present = set(file.schema_arrow.names).intersection(columns)
            table = file.read([name for name in columns if name in present], use_threads=False)
        return _complete(table, columns)
    except (pa.ArrowException, OSError) as error:
        why = "the file is missing" if isinstance(error, FileNotFoundError) else error
        raise JobError(
            f"{storage.uri}/{shard.path}: cannot be read: {why}; `catalog verify` names all"
        ) from error


def without_recordings(
    storage: Storage, shard: Shard, recordings: Collection[str], run_id: str, identity: Identity
) -> Shard | None:
    """A new file with the shard's rows of other recordings; the shard itself if it has no row of these, or None."""
    ids = read_columns(storage, [shard], ["recording_id"])["recording_id"]
    keep = pc.invert(pc.is_in(ids, value_set=pa.array(sorted(recordings), pa.string())))
    kept = pc.sum(keep).as_py()
    if kept == shard.rows:
        return shard
    if not kept:
        return None
    rows = read_shard(storage, shard).filter(keep)
    return write_part(storage, rows, shard.split, run_id, identity.codec, stated_columns(shard, identity))


def _conform(table: pa.Table, columns: Columns) -> pa.Table:
    unknown = sorted(set(table.column_names) - set(SCHEMA.names) - {"split"})
    if unknown:
        raise ValueError(f"column {unknown[0]!r} is not in docs/data.md")
    rows = _complete(table)
    for name in ("id", "recording_id"):
        if rows[name].null_count:
            raise ValueError(f"{rows[name].null_count} of {table.num_rows} rows have no {name}")
    for name, identity in columns.items():
        check_column(name, identity)
    for name in TOKEN_COLUMNS:
        if name not in columns and rows[name].null_count < table.num_rows:
            raise ValueError(f"column {name} holds values, but nothing says what made them")
    return rows


def _complete(table: pa.Table, columns: Sequence[str] = SCHEMA.names) -> pa.Table:
    """These columns of SCHEMA, in this order and of its types; null where the table lacks one."""
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    present = set(table.column_names)
    found = [
        table[field.name].cast(field.type) if field.name in present else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(found, schema=schema)


def _check_makers(metadata: Mapping[bytes, bytes], shard: Shard, identity: Identity) -> list[str]:
    codec = metadata.get(CODEC_PROPERTY.encode(), b"").decode()
    problems = []
    if codec != identity.codec.to_json():
        problems.append(f"made with codec {codec or 'unknown'}, the dataset's is {identity.codec.to_json()}")
    columns = metadata.get(COLUMNS_PROPERTY.encode(), b"{}").decode()
    expected = columns_to_json(stated_columns(shard, identity))
    if columns != expected:
        problems.append(f"its token columns are made by {columns}, the dataset says {expected}")
    return problems


def _check_recordings(rows: pa.Table, shard: Shard) -> list[str]:
    if not shard.sha256:
        return []  # another program's file: the log has none of our numbers
    problems = []
    distinct = pc.count_distinct(rows["recording_id"]).as_py()
    if distinct != shard.recordings:
        problems.append(f"{distinct} recordings, the log says {shard.recordings}")
    if shard.recording_keys and pack_keys(rows["recording_id"]) != shard.recording_keys:
        problems.append("its recordings are not those whose keys the log has")
    return problems


def _load(storage: Storage, shard: Shard) -> tuple[list[str], pa.Table | None]:
    """The rows, or why there are none. Nothing is parsed before the digest agrees."""
    try:
        data = storage.read(shard.path)
    except FileNotFoundError:
        return ["the file is missing"], None
    if len(data) != shard.size_bytes:
        return [f"{len(data)} bytes, the log says {shard.size_bytes}"], None
    problems = [] if shard.sha256 else ["the log has no sha256 for it (not written by this program)"]
    if shard.sha256 and hashlib.sha256(data).hexdigest() != shard.sha256:
        return [f"its sha256 is not the committed {shard.sha256[:12]}...: the file has changed"], None
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        # Without Arrow's threads: one of them would free these bytes while the interpreter ends, which aborts it.
        return problems, file.read(use_threads=False)
    except (pa.ArrowException, OSError) as error:
        return [*problems, f"not readable as Parquet: {' '.join(str(error).split())}"], None
