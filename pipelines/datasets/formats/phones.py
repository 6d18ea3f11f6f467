"""Phonemes of a dataset's rows: the column where it is filled, espeak-ng's otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from pipelines.datasets.formats.interface import Export
from pipelines.datasets.formats.rows import rows_of
from pipelines.rows import Row


def rows_with_phones(table: pa.Table, context: Export) -> Iterator[Row]:
    """The rows of a table with `phonemes`; one that can have none is counted as left out."""
    for row in rows_of(table):
        try:
            row["phonemes"] = row["phonemes"] or _made(row, context.language)
        except ValueError as error:
            context.skip(row["id"], str(error))
            continue
        if any(not phone or (phone != " " and len(phone.split()) != 1) for phone in row["phonemes"]):
            context.skip(row["id"], "a phone is empty or holds white space")
        elif row["phonemes"] in ([], [" "]):
            context.skip(row["id"], "neither phonemes nor a text that has some")
        else:
            yield row


def to_line(phones: list[str]) -> str:
    """Separated by spaces; the phone " " is an empty field, so two spaces (specification of VALL-E's `.phn.txt`)."""
    return " ".join("" if phone == " " else phone for phone in phones)


def from_line(line: str) -> list[str]:
    """Read what `to_line` wrote; an empty line has no phones."""
    return [field or " " for field in line.split(" ")] if line else []


def _made(row: Row, language: str) -> list[str]:
    from models.text.phonemes import phonemize

    text = row["normalized_text"] or row["text"]
    return phonemize([text], row["language"] or language)[0] if text else []
