"""WebDataset: `SPLIT-NNNNNN.tar`, each utterance as `KEY.json`, `KEY.codes.npy` and, with audio, `KEY.flac`.

The JSON has the fields of Emilia's (id, text, duration, speaker, language, dnsmos) and the columns of docs/data.md that
are filled; `codes.npy` is int16 (codebooks, frames). `codec.json` beside the tars says which codec made them.
"""

from __future__ import annotations

import io
import json
import math
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from catalog.command import JobError, UsageError
from catalog.reasons import Reason
from pipelines.datasets.formats.interface import (
    MOST_BYTES,
    MOST_TEXT_BYTES,
    Export,
    Import,
    SplitTables,
    codec_file,
)
from pipelines.datasets.formats.names import from_name, to_name
from pipelines.datasets.formats.rows import DESCRIPTIVE, described, rows_of
from pipelines.datasets.formats.splits import is_split, stored_split
from pipelines.rows import Row
from pipelines.sources.interface import PARSING
from pipelines.sources.webdataset import forward_members

SHARD_BYTES = 256 << 20
JSON, CODES, FLAC = "json", "codes.npy", "flac"


def write(batches: SplitTables, target: Path, context: Export) -> int:
    """Create the folder. Returns the number of rows."""
    target.mkdir()
    codec_file(target).write_text(context.codec.to_json(), encoding="utf-8")
    with _Shards(target) as shards:
        for split, table in batches:
            for row in rows_of(table):
                try:
                    key = to_name(row["id"])
                except ValueError as error:
                    context.skip(row["id"], str(error))
                    continue
                shards.add(split, key, _members(row, context))
    return shards.written


def read(source: Path, context: Import) -> Iterator[Row]:
    """Rows in the order of the files and their members. `source` is a folder of tars or one tar."""
    tars = sorted(source.rglob("*.tar")) if source.is_dir() else [source]
    if not tars or not all(path.is_file() for path in tars):
        raise UsageError(f"SOURCE {source} holds no *.tar; give a tar or the folder above them")
    context.check_codec(codec_file(tars[0].parent))
    for path in tars:
        split = stored_split(_split_of(path), context.splits)
        if split is None:
            continue
        try:
            for key, members in _samples(path):
                yield {**_row(key, members), "split": split}
        except (tarfile.TarError, EOFError, *PARSING) as error:
            raise JobError(f"{path}: damaged: {error}; nothing was imported") from error


class _Shards:
    """Tars of one split at a time, each closed when it is full."""

    def __init__(self, target: Path) -> None:
        self._target, self._tar, self._split = target, None, ""
        self._numbers: dict[str, int] = {}
        self.written = 0

    _tar: tarfile.TarFile | None

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        if self._tar is not None:
            self._tar.close()

    def add(self, split: str, key: str, members: dict[str, bytes]) -> None:
        tar = self._tar
        if tar is None or split != self._split or tar.offset >= SHARD_BYTES:
            if tar is not None:
                tar.close()
            number = self._numbers.get(split, 0)
            self._numbers[split], self._split = number + 1, split
            tar = self._tar = tarfile.open(self._target / f"{split}-{number:06d}.tar", "x")  # noqa: SIM115
        for ending, data in members.items():
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        self.written += 1


def _members(row: Row, context: Export) -> dict[str, bytes]:
    fields = {name: value for name, value in described(row).items() if not _is_nan(value)}
    fields["duration"] = row["duration_s"]
    file = io.BytesIO()
    np.save(file, row["codes"], allow_pickle=False)
    members = {JSON: json.dumps(fields, ensure_ascii=False).encode(), CODES: file.getvalue()}
    if context.flac is not None:
        members[FLAC] = context.flac(row["codes"], row["duration_s"])
    return members


def _is_nan(value: object) -> bool:
    """JSON has none."""
    return isinstance(value, float) and not math.isfinite(value)


def _split_of(path: Path) -> str:
    """`train` of `train-000017.tar` or `train/000017.tar`; what names no split is `train`."""
    named = re.fullmatch(r"(.+?)[-_]\d+", path.stem)
    names = [named[1] if named else path.stem, path.parent.name]
    return next((name for name in names if is_split(name)), "train")


def _samples(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Members by key: neighbours whose names agree up to the first dot."""
    key, members = "", dict[str, bytes]()
    with tarfile.open(path, "r:") as tar:
        for member in forward_members(tar):
            if not member.isfile():
                continue
            folder, _, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            found = f"{folder}/{stem}" if folder else stem
            if found != key and members:
                yield key, members
                members = {}
            key = found
            most = {JSON: MOST_TEXT_BYTES, CODES: MOST_BYTES}.get(ending, 0)
            if most and member.size > most:
                raise tarfile.ReadError(
                    f"member {member.name[:80]!r} has {member.size} bytes; at most {most} are read"
                )
            file = tar.extractfile(member) if most else None
            members[ending] = file.read() if file is not None else b""
    if members:
        yield key, members


def _array(data: bytes) -> npt.NDArray[np.generic]:
    """The array of an npy file; ValueError for anything else, and for a header that promises more than follows."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)  # refuses a zip of arrays, and pickles
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, _, kind = read(file)
    except Exception as error:  # numpy reads it as Python: TokenError, SyntaxError, whatever that raises
        raise ValueError(f"{CODES} has a damaged header: {error}") from error
    size = math.prod(shape) * kind.itemsize
    if kind.hasobject or size != len(data) - file.tell():
        raise ValueError(f"{CODES} promises {size} bytes of {kind}, {len(data) - file.tell()} follow")
    file.seek(0)
    found: npt.NDArray[np.generic] = np.load(file, allow_pickle=False)
    return found


def _row(key: str, members: dict[str, bytes]) -> Row:
    row: Row = {"id": "/".join(map(from_name, key.split("/")))}
    try:
        fields = json.loads(members.get(JSON, b"{}"))
        if not isinstance(fields, dict):
            raise ValueError(f"{JSON} holds a {type(fields).__name__}; must be an object")
        row |= {name: value for name, value in fields.items() if name in DESCRIPTIVE and value is not None}
        if "duration" in fields:
            row.setdefault("duration_s", fields["duration"])
        row["codes"] = _array(members[CODES]) if CODES in members else None
    except (EOFError, *PARSING) as error:
        detail = f"{key}: {' '.join(str(error).split())[:200]}"
        return {**row, "reason": Reason.UNREADABLE.value, "detail": detail}
    return row
