"""The normalisation that every transcript gets."""

import unicodedata


def normalise(text: str) -> str:
    """NFC, control and format characters dropped, every run of white space one space."""
    composed = unicodedata.normalize("NFC", text)
    kept = (" " if char.isspace() else char for char in composed)
    return " ".join("".join(char for char in kept if unicodedata.category(char) not in ("Cc", "Cf")).split())
