"""Names of a recording's fields in tables, manifests and archives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypedDict

PATHS = ("file", "file_name", "filename", "path", "audio", "audio_filepath", "audio_path", "wav", "audio_file",
         "audio_filename", "file_path", "filepath", "wav_path", "wav_file", "wav_filename", "wav_filepath",
         "wav_name", "clip", "id", "utterance_id", "utt_id")  # fmt: skip
NAMES = {
    "text": ("normalized_text", "normalised_text", "text_normalized", "text_normalised", "normalized_transcript",
             "normalized_transcription", "normalised_transcription", "normalized_sentence", "text", "transcript",
             "transcription", "sentence", "raw_text", "raw_transcription", "original_text"),
    "speaker": ("speaker", "speaker_id", "speaker_name", "spk", "spk_id", "client_id"),
    "language": ("language", "lang", "locale", "language_code"),
    "split": ("split",),
}  # fmt: skip
TEXT_FILES = ("text_filepath", "text_file", "text_path", "transcript_path", "transcript_file")
"""Names of a path to the transcript."""
PARTS = ("offset", "start", "end", "stop", "begin", "start_time", "end_time", "stop_time", "begin_time", "start_s",
         "end_s", "stop_s", "start_sec", "end_sec", "start_seconds", "end_seconds", "start_ms", "end_ms",
         "start_sample", "end_sample", "segment_start", "segment_end")  # fmt: skip
"""Names of columns that may say which part of a file a row is, in whatever unit. Of them NeMo's `offset` is read."""
SPLITS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
          "dev": "validation", "test": "validation"}  # fmt: skip
AUDIO = {
    ".wav",
    ".flac",
    ".mp3",
    ".ogg",
    ".opus",
    ".m4a",
    ".aac",
    ".aif",
    ".aiff",
    ".webm",
    ".mp4",
    ".wma",
    ".amr",
}


Fields = Mapping[str, Any]
"""A row of a table, manifest or archive, by field: whatever is there."""


class Attributes(TypedDict):
    """Fields of a recording besides its place."""

    text: str | None
    text_source: str | None
    speaker: str | None
    language: str | None
    split: str | None


def canonical(name: str) -> str:
    """A column's name as `NAMES` and `PATHS` write it: `File Name` is `file_name`."""
    return "_".join(name.strip().lower().replace("-", " ").split())


def known(names: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Indices of the columns that are called one of `names`, in the order of `names`."""
    written = [canonical(column) for column in columns]
    return [index for name in names for index, column in enumerate(written) if column == name]


@lru_cache(maxsize=64)
def columns_of(columns: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each field of `NAMES` that `columns` hold, and the columns that may fill it, the preferred first."""
    found = ((field, tuple(columns[at] for at in known(names, columns))) for field, names in NAMES.items())
    return tuple((field, each) for field, each in found if each)


def attributes(row: Fields, split: str | None = None) -> Attributes:
    """The fields of `NAMES` in a row, each from its first column that is filled; `split` is that of its file.

    Raises ValueError for a value that is no text.
    """
    values = {
        field: next(_filled(row, columns, field == "speaker"), None)
        for field, columns in columns_of(tuple(row))
    }
    text = values.get("text")
    return Attributes(
        text=text,
        text_source="given" if text else None,
        speaker=values.get("speaker"),
        language=values.get("language"),
        split=SPLITS.get((values.get("split") or split or "").lower()),
    )


def text_file(row: Fields) -> str | None:
    """The path of the transcript that a row names, None where it names none. Raises ValueError."""
    columns = tuple(row)
    return next(_filled(row, [columns[at] for at in known(TEXT_FILES, columns)], False), None)


def _filled(row: Fields, columns: Sequence[str], may_be_number: bool) -> Iterator[str]:
    for column in columns:
        if text := _text(row[column], column, may_be_number):
            yield text


def _text(value: object, name: str, may_be_number: bool) -> str | None:
    if value is None:
        return None
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}, not a text")
    if not value.isascii():
        value.encode()  # JSON may hold half a surrogate pair, which no UTF-8 column can
    return value.strip() or None
