"""The normalisation that every transcript gets."""

import re
import unicodedata

UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""A character of a script written without spaces: Thai, Lao, Burmese, Khmer, kana, Han."""


def normalize_transcript(text: str) -> str:
    """NFC, control and format characters dropped, every run of white space one space. Idempotent."""
    spaced = (" " if char.isspace() else char for char in text)
    kept = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cf"))
    # Composed last: a format character may stand between a letter and its accent.
    return unicodedata.normalize("NFC", " ".join(kept.split()))
