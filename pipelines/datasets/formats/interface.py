"""The interface of a format's module: `write` streams a dataset's rows out, `read` streams rows back in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from catalog.codes import Matrix
from catalog.command import JobError
from catalog.identity import Identity
from catalog.outward import say
from models.identity import TokenIdentity
from pipelines.rows import Row

_NAMED = 5
MOST_BYTES = 256 << 20
"""Of the codes of an utterance, in a file or in memory."""
MOST_TEXT_BYTES = 16 << 20
"""Of what a file says of an utterance besides its codes."""

SplitTables = Iterator[tuple[str, pa.Table]]
"""A split and some of its accepted rows, columns of SCHEMA."""


@dataclass
class Export:
    """Parameters of a writer, and its count of rows that the format cannot hold."""

    codec: TokenIdentity
    language: str
    """Of rows without one, where phonemes have to be made."""
    flac: Callable[[Matrix, float | None], bytes] | None = None
    """Codes (Q, T) and the length in seconds -> 16-bit FLAC; None when no audio is requested."""
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows left out, by the rule that they break."""

    def skip(self, row_id: str, rule: str) -> None:
        """Count a row that the format cannot hold; the first ones of a rule are named on standard error."""
        self.skipped[rule] += 1
        if self.skipped[rule] <= _NAMED:
            say(f"left out {row_id}: {rule}")


@dataclass(frozen=True)
class Import:
    """Parameters of a reader."""

    codec: TokenIdentity
    splits: Sequence[str] | None = None
    """The source's splits to read, by their names there; None: all."""

    def check_codec(self, described: Path | str | bytes) -> None:
        """Raise JobError where the source says (a file that may be missing, or its text) that another codec made it."""
        if isinstance(described, Path) and not described.is_file():
            return
        text = described.read_bytes() if isinstance(described, Path) else described
        try:
            found = TokenIdentity.from_json(text.decode() if isinstance(text, bytes) else text)
        except (TypeError, ValueError, KeyError) as error:
            raise JobError(f"what the source says of its codec cannot be read: {error}") from error
        differences = Identity(found, {}).differences(Identity(self.codec, {}))
        if differences:
            raise JobError(f"the source was made with another codec: {'; '.join(differences)}")


def codec_file(folder: Path) -> Path:
    """The file that names the codec of a folder, in formats that have no place for it."""
    return folder / "codec.json"


class Format(Protocol):
    """A module of this folder."""

    def write(self, batches: SplitTables, target: Path, context: Export) -> int:
        """Create `target` (a file or folder that does not exist) and return the number of rows in it."""

    def read(self, source: Path, context: Import) -> Iterator[Row]:
        """Every row of `source`, in an order that never changes.

        A row that cannot be read has `reason` and `detail` and no codes. Raises UsageError where `source` is
        nothing of this format, JobError where it contradicts the codec.
        """
