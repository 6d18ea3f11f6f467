"""The one HDF5 file that VALL-E (`e-c-k-e-r/vall-e`) trains on.

A group `{training|validation}/{speaker}/{id}` an utterance: dataset `audio` (frames, codebooks) int16 and `text` with
symbol numbers between those of `<s>` and `</s>`, both lzf; attributes id, type, speaker, duration (seconds), phonemes
(how many numbers `text` has). The root's dataset `symmap` is the symbol map as JSON. Unlike upstream, whose map gives
7 to both `?` and `p`, a new symbol gets a number that no other has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from catalog.command import JobError, UsageError
from catalog.identity import CODEC_PROPERTY
from catalog.reasons import Reason
from pipelines.audio.lengths import samples_to_seconds
from pipelines.datasets.formats.interface import (
    MOST_BYTES,
    MOST_TEXT_BYTES,
    Export,
    Import,
    SplitTables,
)
from pipelines.datasets.formats.names import NOTHING, from_name, to_name
from pipelines.datasets.formats.phones import rows_with_phones
from pipelines.datasets.formats.splits import stored_split
from pipelines.rows import Row
from pipelines.sources.interface import PARSING

if TYPE_CHECKING:
    import h5py

TYPES = {"train": "training", "validation": "validation"}
START, STOP = "<s>", "</s>"
FIRST_SYMBOLS = {START: 1, STOP: 2, " ": 3, ".": 4, ",": 5, "!": 6, "?": 7}
"""The head of upstream's default map."""


def write(batches: SplitTables, target: Path, context: Export) -> int:
    """Create the file. Returns the number of rows."""
    import h5py
    import numpy as np

    symbols = dict(FIRST_SYMBOLS)
    codec, written = context.codec, 0
    with h5py.File(target, "x") as file:
        for split, table in batches:
            for row in rows_with_phones(table, context):
                try:
                    path = _path(split, row)
                except ValueError as error:
                    context.skip(row["id"], str(error))
                    continue
                text = [symbols.setdefault(one, len(symbols) + 1) for one in (START, *row["phonemes"], STOP)]
                group = file.create_group(path)
                # The type of a row is that of its largest number; upstream's is that of the map's size.
                kind = np.uint8 if max(text) < 256 else np.uint16
                group.create_dataset("audio", data=row["codes"].T, compression="lzf")
                group.create_dataset("text", data=np.array(text, kind), compression="lzf", chunks=True)
                frames = row["codes"].shape[1]
                group.attrs.update(
                    id=row["id"],
                    type=TYPES[split],
                    speaker=row["speaker"] or "",
                    duration=samples_to_seconds(codec.samples(frames), codec.sample_rate),
                    phonemes=len(text),
                )
                written += 1
        file.attrs[CODEC_PROPERTY] = codec.to_json()
        file.create_dataset("symmap", data=json.dumps(symbols, ensure_ascii=False))
    return written


def read(source: Path, context: Import) -> Iterator[Row]:
    """Rows by path. Groups of `noise` are recordings without words and are left out. UsageError for phones without
    the map of their numbers."""
    import h5py

    if source.exists() and not source.is_file():
        raise UsageError(f"SOURCE {source} cannot be read as HDF5: it is no regular file")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise UsageError(f"SOURCE {source} cannot be read as HDF5: {error}") from error
    with file, _named(source):
        if CODEC_PROPERTY in file.attrs:
            context.check_codec(file.attrs[CODEC_PROPERTY])
        phones = _phones_by_number(file, source)
        kinds = [kind for kind in file if isinstance(_child(file, kind), h5py.Group) and kind != "noise"]
        if not kinds:
            raise UsageError(f"SOURCE {source} has no group `training` or `validation`")
        for kind in sorted(kinds):
            split = stored_split(kind, context.splits)
            for parts, group in _utterances(file[kind], (), set()) if split else ():
                yield {**_row(parts, group, phones), "split": split, "source": source.absolute().as_uri()}


def _path(split: str, row: Row) -> str:
    speaker = NOTHING if row["speaker"] is None else to_name(row["speaker"])
    return f"{TYPES[split]}/{speaker}/{to_name(row['id'])}"


def _phones_by_number(file: h5py.File, source: Path) -> Mapping[int, str] | None:
    """Of two symbols with one number the later one counts: it was added later. None where the map is missing."""
    if "symmap" not in file:
        return None
    try:
        text = _read(file, "symmap", MOST_TEXT_BYTES)
        symbols = json.loads(text)
        return {int(number): str(symbol) for symbol, number in symbols.items()}
    except PARSING as error:
        raise UsageError(
            f"SOURCE {source}: `symmap` must be a JSON map of symbols to numbers: {error}"
        ) from error


@contextmanager
def _named(source: Path) -> Iterator[None]:
    """Whatever a damaged file raises names the file."""
    try:
        yield
    except (RuntimeError, *PARSING) as error:
        raise JobError(f"SOURCE {source}: damaged: {error}; nothing was imported") from error


def _child(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """A group or dataset of this very file; None for links, which may lead nowhere, around or into another file."""
    import h5py

    return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None


def _read(group: h5py.Group, name: str, most: int) -> Any:
    """The whole of a dataset. ValueError for a link, and for more than `most` bytes in memory."""
    import h5py

    found = _child(group, name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise ValueError(f"{name} is a link, or no dataset")
    if found.size * found.dtype.itemsize > most:
        raise ValueError(f"{name} has {found.size} entries of {found.dtype}; at most {most} bytes are read")
    return found[()]


def _utterances(
    group: h5py.Group, parts: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], h5py.Group]]:
    """Groups that hold `audio`, however deep, each once."""
    import h5py

    for name in sorted(group):
        child = _child(group, name)
        if isinstance(child, h5py.Group):
            at = h5py.h5o.get_info(child.id).addr
            if at in seen:  # a second name, which may lead around
                continue
            seen.add(at)
            if "audio" in child:
                yield (*parts, name), child
            else:
                yield from _utterances(child, (*parts, name), seen)


def _row(parts: tuple[str, ...], group: h5py.Group, phones: Mapping[int, str] | None) -> Row:
    speaker, inner = (parts[0], parts[1:]) if len(parts) > 1 else (NOTHING, parts)
    row: Row = {
        "id": "/".join(map(from_name, inner)),
        "speaker": None if speaker == NOTHING else from_name(speaker),
    }
    try:
        row["codes"] = _read(group, "audio", MOST_BYTES).T
        if "text" in group and phones is None:
            raise UsageError(
                f"SOURCE {group.file.filename} has numbers for phones (`text`), but not the map that says which: "
                "the dataset `symmap` is missing"
            )
        if "text" in group and phones is not None:
            numbers = _read(group, "text", MOST_TEXT_BYTES).reshape(-1).tolist()
            unknown = [number for number in numbers if number not in phones]
            if unknown:
                detail = f"text holds {unknown[0]}, which `symmap` does not have"
                return {**row, "reason": Reason.INVALID_ROW.value, "detail": detail}
            said = [phones[number] for number in numbers]
            row["phonemes"] = [phone for phone in said if phone not in (START, STOP)] or None
    except (RuntimeError, *PARSING) as error:
        return {**row, "reason": Reason.UNREADABLE.value, "detail": " ".join(str(error).split())[:200]}
    return row
