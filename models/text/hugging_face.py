"""A Hugging Face tokenizer: what the published MaskGCT checkpoints read (the Llama 3.1 BPE)."""

from pathlib import Path


class HuggingFaceTokens:
    """The tokenizer in a directory, or behind a hub id where a hub can be reached. No code of a repository is run."""

    def __init__(self, source: str) -> None:
        # Imported here: a second of start-up that systems of bytes need not pay.
        from transformers import AutoTokenizer

        # Given, because without it the program may stop and ask.
        self._tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        self.vocab_size = len(self._tokenizer)

    def ids(self, text: str) -> list[int]:
        """Ids with the special tokens that the tokenizer adds by itself."""
        ids: list[int] = self._tokenizer.encode(text)
        return ids

    def save(self, directory: Path) -> dict[str, str]:
        """Write the tokenizer's files into `directory/text`."""
        self._tokenizer.save_pretrained(str(directory / "text"))
        return {"source": "text"}
