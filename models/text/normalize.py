"""The normalisation that every transcript gets."""

import re
import unicodedata

UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""A character of a script written without spaces: Thai, Lao, Burmese, Khmer, kana, Han."""

_JOINERS = "\u200c\u200d"


def has_word(text: str) -> bool:
    """True if a text holds a letter or a digit of any script."""
    return any(char.isalnum() for char in text)


def word_count(text: str) -> int:
    """Words between spaces; in scripts that have none between words, characters."""
    return sum(map(has_word, UNSPACED.sub(" x ", text).split()))


def normalize_transcript(text: str) -> str:
    """NFC, control and format characters dropped, every run of white space one space. Idempotent.

    U+200C and U+200D stay between letters: they belong to the spelling of Persian, Hindi and others.
    """
    spaced = (" " if char.isspace() else char for char in text)
    kept = "".join(
        char for char in spaced if char in _JOINERS or unicodedata.category(char) not in ("Cc", "Cf")
    )
    kept = " ".join(kept.split())
    if any(joiner in kept for joiner in _JOINERS):
        kept = _without_stray_joiners(kept)
    # Composed last: a format character may stand between a letter and its accent.
    return unicodedata.normalize("NFC", kept)


def _without_stray_joiners(text: str) -> str:
    kept: list[str] = []
    for char, after in zip(text, f"{text[1:]} ", strict=True):
        if char in _JOINERS:
            follows = bool(kept) and unicodedata.category(kept[-1])[0] in "LM"
            # A virama may follow (Bengali's ya-phalaa); any other mark belongs to the letter before.
            if not follows or not (
                unicodedata.category(after)[0] == "L" or unicodedata.combining(after) == 9
            ):
                continue
        kept.append(char)
    return " ".join("".join(kept).split())
