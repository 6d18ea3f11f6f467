"""A Hugging Face tokenizer: what the published MaskGCT checkpoints read (the Llama 3.1 BPE)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = "text"


class HuggingFaceFrontEnd:
    """The tokenizer in a directory, or behind a hub id where a hub can be reached."""

    def __init__(self, source: str) -> None:
        # Imported here: a second of start-up that systems of bytes need not pay.
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(source)
        self.vocab_size = len(self._tokenizer)

    def encode(
        self,
        text: str,
        language: str | None = None,  # noqa: ARG002
        phones: Sequence[str] | None = None,
    ) -> list[int]:
        """Ids with the special tokens that the tokenizer adds by itself."""
        if phones is not None:
            raise ValueError("the text front end huggingface reads no phones; give the text alone")
        ids: list[int] = self._tokenizer.encode(text)
        return ids

    def save(self, directory: Path) -> dict[str, Any]:
        """Write the tokenizer's files into `directory/text`."""
        self._tokenizer.save_pretrained(str(directory / FOLDER))
        return {"kind": "huggingface", "source": FOLDER}
