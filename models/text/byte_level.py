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


class ByT5Tokens:
    """The bytes of a text as ByT5 numbers them (arXiv 2105.13626), and its end token; toktts reads them."""

    vocab_size = 384
    """Padding, end, unknown, the bytes, and 125 sentinels that no text has."""

    def ids(self, text: str) -> list[int]:
        """A byte is its value and 3 more; the end token is 1."""
        return [*(byte + 3 for byte in text.encode("utf-8")), 1]

    def save(self, directory: Path) -> dict[str, str]:  # noqa: ARG002
        """Nothing to write."""
        return {}
