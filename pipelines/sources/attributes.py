"""Names of a recording's fields in tables, manifests and archives."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict

PATHS = ("file", "file_name", "filename", "path", "audio", "audio_filepath", "audio_path", "wav", "id")
NAMES = {
    "text": ("normalized_text", "normalised_text", "normalized text", "normalised text", "text_normalized", "text",
             "transcript", "transcription", "sentence"),
    "speaker": ("speaker", "speaker_id"),
    "language": ("language", "lang", "locale"),
    "split": ("split",),
}  # fmt: skip
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
    """Fields of a recording beside its place."""

    text: str | None
    text_source: str | None
    speaker: str | None
    language: str | None
    split: str | None


@lru_cache(maxsize=64)
def columns_of(columns: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Each field of `NAMES` that `columns` hold, and what they call it."""
    found = ((field, [name for name in names if name in columns]) for field, names in NAMES.items())
    return tuple((field, known[0]) for field, known in found if known)


def attributes(row: Fields, split: str | None = None) -> Attributes:
    """The fields of `NAMES` in a row; `split` is that of its file. Raises ValueError for a value that is no text."""
    values = {field: _text(row[name], name) for field, name in columns_of(tuple(row))}
    text = values.get("text")
    return Attributes(
        text=text,
        text_source="given" if text else None,
        speaker=values.get("speaker"),
        language=values.get("language"),
        split=SPLITS.get((values.get("split") or split or "").lower()),
    )


def _text(value: object, name: str) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and name in NAMES["speaker"]:
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}, not a text")
    if not value.isascii():
        value.encode()  # JSON may hold half a surrogate pair, which no UTF-8 column can
    return value.strip() or None
