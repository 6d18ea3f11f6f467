"""Text front ends: a sentence becomes token ids. `text_front_end` builds one from its description."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from models.text.byte_level import ByteFrontEnd
from models.text.hugging_face import HuggingFaceFrontEnd


class TextFrontEnd(Protocol):
    """What every front end offers."""

    vocab_size: int
    """Rows that a text table needs."""

    def encode(
        self, text: str, language: str | None = None, phones: Sequence[str] | None = None
    ) -> list[int]:
        """Token ids in [0, vocab_size), special tokens included."""

    def save(self, directory: Path) -> dict[str, Any]:
        """Write the files it needs below `directory`; the result describes it relative to that directory."""


KINDS = ("bytes", "huggingface")


def text_front_end(description: Mapping[str, Any], root: Path | None = None) -> TextFrontEnd:
    """Build the front end that a description names; `root` is what its relative paths start from.

    `{"kind": "bytes"}`, or `{"kind": "huggingface", "source": directory or hub id}`. ValueError for another kind
    or key, OSError for a tokenizer that is not there.
    """
    keys = dict(description)
    kind = keys.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"text front end kind {kind!r} is unknown; known: {', '.join(KINDS)}")
    source = keys.pop("source", None) if kind == "huggingface" else None
    if keys:
        raise ValueError(f"text front end {kind} has no setting {sorted(keys)[0]!r}")
    if kind == "bytes":
        return ByteFrontEnd()
    if not isinstance(source, str):
        raise ValueError("text front end huggingface needs source: a tokenizer directory or a hub id")
    inside = root / source if root is not None else None
    return HuggingFaceFrontEnd(str(inside) if inside is not None and inside.is_dir() else source)
