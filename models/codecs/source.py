"""Codec source strings `NAME[@EDITION][:LEVELS]`, and codecs reduced to their first levels.

NAME is a codec's name, a directory or an id of a hub (`OWNER/NAME`). The active levels are part of an identity: its
`n_codebooks` is their number, so codes of 8 levels and codes of 32 levels of one codec do not share a dataset.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TypeVar

from models.codecs.interface import Codec

C = TypeVar("C", bound=Codec)


@dataclass(frozen=True)
class CodecSource:
    """A codec as it is written on a command line and in configurations."""

    name: str
    edition: str = ""
    """Empty: the newest."""
    levels: int | None = None
    """None: all."""

    @staticmethod
    def parse(text: str) -> CodecSource:
        """Read `NAME[@EDITION][:LEVELS]`. ValueError for another form.

        `@` and `:` before a `/` belong to a directory.
        """
        location, levels = _split(text, ":")
        name, edition = _split(location, "@")
        if not name or edition == "":
            raise ValueError(
                f"codec {text!r}: must be NAME, NAME@EDITION, NAME:LEVELS or NAME@EDITION:LEVELS"
            )
        if levels is not None and not (levels.isascii() and levels.isdigit() and int(levels) > 0):
            raise ValueError(f"codec {text!r}: levels are {levels!r}; must be a whole number from 1 on")
        return CodecSource(name, edition or "", None if levels is None else int(levels))

    def __str__(self) -> str:
        edition = f"@{self.edition}" if self.edition else ""
        levels = "" if self.levels is None else f":{self.levels}"
        return f"{self.name}{edition}{levels}"


def first_levels(codec: C, levels: int) -> C:
    """The same codec, networks shared, with only its first levels active. ValueError if it has fewer."""
    if not 1 <= levels <= codec.n_codebooks:
        raise ValueError(f"{codec.name} has {codec.n_codebooks} levels; {levels} were requested")
    reduced = copy.copy(codec)
    reduced.identity = replace(codec.identity, n_codebooks=levels)
    return reduced


def _split(text: str, mark: str) -> tuple[str, str | None]:
    """Before and after the last `mark`; None where there is none in the last part of a path."""
    before, found, after = text.rpartition(mark)
    return (before, after) if found and "/" not in after else (text, None)
