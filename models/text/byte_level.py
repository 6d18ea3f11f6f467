"""UTF-8 bytes as tokens: any language, no files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = 256, 257


class ByteFrontEnd:
    """The bytes of the text between a begin and an end token."""

    vocab_size = 258

    def encode(
        self,
        text: str,
        language: str | None = None,  # noqa: ARG002
        phones: Sequence[str] | None = None,
    ) -> list[int]:
        """One id a byte, and two more."""
        if phones is not None:
            raise ValueError("the text front end bytes reads no phones; give the text alone")
        return [BEGIN, *text.encode("utf-8"), END]

    def save(self, directory: Path) -> dict[str, Any]:  # noqa: ARG002
        """Nothing to write."""
        return {"kind": "bytes"}
