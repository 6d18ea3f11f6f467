"""A source offers recordings, one by one, in an order and under ids that do not change."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from catalog.command import UsageError
from catalog.reasons import Reason


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording on offer, before anything of it was read."""

    recording_id: str
    """Stable across runs and machines: the path within the source."""
    uri: str
    """Enough to read it without the source: a file, or a member of a container (`members.py`)."""
    size_bytes: int | None
    """None where only another look would tell."""
    text: str | None = None
    text_uri: str | None = None
    """A sidecar file with the transcript, where `text` is None."""
    text_source: str | None = None
    speaker: str | None = None
    language: str | None = None
    split: str | None = None
    """`train` or `validation` where the source says so."""
    start_s: float | None = None
    """Start of the segment of the file, if the recording is not the whole of it."""
    stop_s: float | None = None
    source_stat: str | None = None
    """`bytes:nanoseconds` of the file or container, where known without another look at it."""
    estimated: bool = False
    """True if `size_bytes` is a guess: of a segment, or from a duration."""
    problem: Reason | None = None
    """Reason to reject it unseen."""
    detail: str | None = None
    """The problem in words."""


_TYPES = {"size_bytes": pa.int64(), "start_s": pa.float64(), "stop_s": pa.float64(), "estimated": pa.bool_()}
SCHEMA = pa.schema(
    [pa.field(field.name, _TYPES.get(field.name, pa.string())) for field in dataclasses.fields(Recording)]
)


PARSING = (
    pa.ArrowException,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
"""All that reading foreign bytes raises in libraries that trust them; a reader turns it into BrokenFile."""


class BrokenFile(UsageError):
    """A file of many recordings that cannot be read, or not to its end."""


class Source(Protocol):
    """Recordings behind a location."""

    @property
    def uri(self) -> str:
        """Absolute."""
        ...

    def recordings(self) -> Iterator[Recording]:
        """Every recording on offer; raises UsageError for a table that cannot be read."""
        ...


def identifier(relative: str) -> str:
    """A recording id of a relative path; bytes that are not UTF-8 are written as \\xNN."""
    return relative.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def to_table(recordings: Sequence[Recording]) -> pa.Table:
    """Rows of `SCHEMA`."""
    columns = [
        pa.array([getattr(one, field.name) for one in recordings], field.type, from_pandas=False)
        for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
