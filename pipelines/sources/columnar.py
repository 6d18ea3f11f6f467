"""Parquet and Arrow files with audio in a column: bytes, or Hugging Face's struct of bytes and path.

The audio column is the first that the file's Hugging Face features call Audio, else a struct with `bytes`, else
binary of a known name. Listing reads the other columns only.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.sources import filesystems, uris
from pipelines.sources.attributes import NAMES, Fields, attributes, known
from pipelines.sources.column_texts import is_text, lengths, rows_of
from pipelines.sources.interface import PARSING, BrokenFile, Recording
from pipelines.sources.members import is_arrow_file, member_uri, open_arrow, open_file
from pipelines.sources.reading import current, size_text

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_LISTED = 1024
"""Rows that are read together."""
ENDINGS = (".parquet", ".arrow", ".feather")
_AUDIO = ("audio", "audio_bytes", "bytes", "wav", "flac", "mp3", "content")
_IDS = ("id", "utterance_id", "utt_id", "segment_id", "key", "__key__")


class NoAudioColumn(UsageError):
    """A table without audio; in a folder it is left out, on its own it is refused."""


def columnar_recordings(part: filesystems.Entry, name: str, split: str | None = None) -> Iterator[Recording]:
    """Recordings of a Parquet or Arrow file; raises NoAudioColumn, and BrokenFile where it cannot be read on.

    Ids are those of a column of texts named `id` (or the like), else `<name>#<row>`.
    """
    shown = uris.shown(part.uri)
    read = _parquet if part.name.lower().endswith(".parquet") else _arrow
    try:
        yield from read(part, name, split)
    except NoAudioColumn as error:
        raise NoAudioColumn(f"{shown}: {error}") from error
    except PARSING as error:
        raise BrokenFile(f"{shown}: cannot be read: {' '.join(str(error).split())}") from error


@dataclass(frozen=True)
class _Layout:
    """Roles of a file's columns."""

    audio: str
    own_id: str | None
    given: Sequence[str]
    labels: Mapping[str, Sequence[str]]
    """Names behind the numbers of columns of class labels."""

    @staticmethod
    def of(schema: pa.Schema) -> _Layout:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = (features.get("info") or {}).get("features") or {}
        kinds = {column: kind for column, kind in features.items() if isinstance(kind, dict)}
        labels = {one: kind["names"] for one, kind in kinds.items() if kind.get("_type") == "ClassLabel"}
        texts = {field.name for field in schema if is_text(field.type)}
        numbers = {field.name for field in schema if pa.types.is_integer(field.type)}
        speakers = [schema.names[at] for at in known(NAMES["speaker"], schema.names)]
        usable = texts | set(labels) | (numbers & set(speakers))
        _refuse_unusable(schema, usable)
        return _Layout(
            audio=_audio_column(schema, [one for one, kind in kinds.items() if kind.get("_type") == "Audio"]),
            own_id=next((one for one in _IDS if one in texts), None),
            given=[
                schema.names[at]
                for names in NAMES.values()
                for at in known(names, schema.names)
                if schema.names[at] in usable
            ],
            labels=labels,
        )

    @property
    def columns(self) -> list[str]:
        """Columns that listing reads."""
        return list(dict.fromkeys([*self.given, *([self.own_id] if self.own_id else [])]))

    def row(self, values: Fields) -> Fields:
        """Values with labels in the place of their numbers."""
        row = {one: values[one] for one in self.given}
        for column, names in self.labels.items():
            if isinstance(value := row.get(column), int):
                row[column] = names[value] if 0 <= value < len(names) else None
        return row


def _refuse_unusable(schema: pa.Schema, usable: set[str]) -> None:
    """Refuse a field all of whose columns are of types that cannot be read: their values would be lost."""
    for field, names in NAMES.items():
        columns = [schema.field(at) for at in known(names, schema.names)]
        filled = [column for column in columns if not pa.types.is_null(column.type)]
        if filled and not any(column.name in usable for column in filled):
            also = " or whole numbers" if field == "speaker" else ""
            raise ValueError(
                f"column {filled[0].name!r} is of type {filled[0].type}; {field} must be text{also}; cast or rename it"
            )


def _audio_column(schema: pa.Schema, featured: Sequence[str]) -> str:
    structs = [
        field.name
        for field in schema
        if pa.types.is_struct(field.type)
        and any(child.name == "bytes" and _is_binary(child.type) for child in field.type)
    ]
    binary = [field.name for field in schema if _is_binary(field.type)]
    named = [one for one in _AUDIO if one in structs or one in binary]
    found: list[str] = [one for one in [*featured, *structs, *named] if one in structs or one in binary]
    if found:
        return found[0]
    raise NoAudioColumn(
        f"no column of audio bytes (columns are {', '.join(schema.names)}); it needs a struct of bytes and path, "
        f"or binary named one of {', '.join(_AUDIO)}"
    )


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _parquet(part: filesystems.Entry, name: str, split: str | None) -> Iterator[Recording]:
    import pyarrow.parquet as pq

    with open_file(part.uri) as file:
        table = pq.ParquetFile(file)
        layout = _Layout.of(table.schema_arrow)
        texts = [one for one in layout.columns if is_text(table.schema_arrow.field(one).type)]
        table = pq.ParquetFile(file, read_dictionary=texts)
        first = 0
        for group in range(table.num_row_groups):
            about = table.metadata.row_group(group)
            stored = [about.column(index) for index in range(about.num_columns)]
            audio = sum(
                one.total_uncompressed_size
                for one in stored
                if one.path_in_schema.partition(".")[0] == layout.audio
            )
            size = audio // max(1, about.num_rows)
            for row, (values, too_long) in enumerate(
                _described(table, group, about.num_rows, layout.columns)
            ):
                uri = member_uri(part.uri, row_group=group, row=row, column=layout.audio)
                one = _recording(part, uri, size, True, layout, values, f"{name}#{first + row}", split)
                yield _without_text(one, too_long)
            first += about.num_rows


def _described(
    table: pq.ParquetFile, group: int, rows: int, columns: Sequence[str]
) -> Iterator[tuple[Fields, str | None]]:
    """Rows of a row group by column, and which text is too long."""
    if not columns:
        yield from (({}, None) for _ in range(rows))
        return
    for batch in table.iter_batches(_LISTED, row_groups=[group], columns=list(columns), use_threads=False):
        yield from rows_of(batch)


def _without_text(one: Recording, too_long: str | None) -> Recording:
    if too_long is None:
        return one
    detail = f"{too_long} has more than {size_text(current().text_bytes)}"
    return replace(one, problem=Reason.TOO_LONG, detail=detail)


def _arrow(part: filesystems.Entry, name: str, split: str | None) -> Iterator[Recording]:
    with open_arrow(part.uri) as file:
        layout: _Layout | None = None
        first = 0
        for address, batch in _arrow_batches(file):
            layout = layout or _Layout.of(batch.schema)
            for column in (*layout.columns, layout.audio):
                # Offsets that point elsewhere end the process where they are followed.
                batch[column].validate(full=True)
            sizes = _sizes(batch[layout.audio])
            described: Iterable[tuple[Fields, str | None]] = repeat(({}, None), len(sizes))
            if layout.columns:
                described = rows_of(batch.select(layout.columns))
            for row, (size, (values, too_long)) in enumerate(zip(sizes, described, strict=True)):
                uri = member_uri(part.uri, **address, row=row, column=layout.audio)
                one = _recording(part, uri, size, False, layout, values, f"{name}#{first + row}", split)
                yield _without_text(one, too_long)
            first += len(sizes)


def _arrow_batches(
    file: pa.NativeFile | BinaryIO,
) -> Iterator[tuple[dict[str, int], pa.RecordBatch]]:
    """Batches of an Arrow file or stream with the address of each."""
    if is_arrow_file(file):
        reader = pa.ipc.open_file(file)
        for index in range(reader.num_record_batches):
            yield {"batch": index}, reader.get_batch(index)
        return
    schema = pa.ipc.read_schema(file)
    while True:
        offset = file.tell()
        try:
            message = pa.ipc.read_message(file)
        except EOFError:
            return
        if message.type == "record batch":
            yield {"offset": offset}, pa.ipc.read_record_batch(message, schema)


def _sizes(column: pa.Array) -> list[int | None]:
    data = column.field("bytes") if pa.types.is_struct(column.type) else column
    valid = data.is_valid().to_pylist()
    return [size if is_there else None for size, is_there in zip(lengths(data).tolist(), valid, strict=True)]


def _recording(
    part: filesystems.Entry,
    uri: str,
    size: int | None,
    estimated: bool,
    layout: _Layout,
    values: Fields,
    numbered: str,
    split: str | None,
) -> Recording:
    own_id = values.get(layout.own_id) if layout.own_id else None
    return Recording(
        recording_id=own_id or numbered,
        uri=uri,
        size_bytes=size,
        source_stat=part.source_stat,
        estimated=estimated,
        **attributes(layout.row(values) if values else {}, split),
    )
