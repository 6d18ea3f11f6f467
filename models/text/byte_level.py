"""UTF-8 bytes as tokens: any language, no files."""

from pathlib import Path

BEGIN, END = 256, 257


class ByteTokens:
    """The bytes of a text between a begin and an end token."""

    vocab_size = 258

    def ids(self, text: str) -> list[int]:
        """One id a byte, and two more."""
        return [BEGIN, *text.encode("utf-8"), END]

    def save(self, directory: Path) -> dict[str, str]:  # noqa: ARG002
        """Nothing to write."""
        return {}
