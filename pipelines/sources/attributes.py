"""What the fields of a recording are called in tables, manifests and archives."""

from __future__ import annotations

from collections.abc import Container, Mapping
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


class Attributes(TypedDict):
    """Fields of a recording beside its place."""

    text: str | None
    text_source: str | None
    speaker: str | None
    language: str | None
    split: str | None


def column_of(field: str, columns: Container[str]) -> str | None:
    """What `columns` call a field of `NAMES`."""
    return next((name for name in NAMES[field] if name in columns), None)


def attributes(row: Mapping[str, Any], split: str | None = None) -> Attributes:
    """The fields of `NAMES` in a row; `split` is that of its file. Raises ValueError for a value that is no text."""
    values = {field: _text(row, field) for field in NAMES}
    return Attributes(
        text=values["text"],
        text_source="given" if values["text"] else None,
        speaker=values["speaker"],
        language=values["language"],
        split=SPLITS.get((values["split"] or split or "").lower()),
    )


def _text(row: Mapping[str, Any], field: str) -> str | None:
    name = column_of(field, row)
    value = None if name is None else row[name]
    if isinstance(value, int) and field == "speaker":
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}, not a text")
    if value and not value.isascii():
        value.encode()  # JSON may hold half a surrogate pair, which no UTF-8 column can
    return (value or "").strip() or None
