"""Text -> phonemes in the International Phonetic Alphabet, with espeak-ng.

A phone is one character of espeak-ng's IPA with what modifies it: the marks of stress and length (`ˈ ˌ ː`) join the
phone before them, as in VALL-E's `.phn.txt` files, and so do diacritics and tone digits. Words are separated by the
phone " "; punctuation marks are phones of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

from models.text.espeak import Espeak, EspeakError, voice_of

MARKS = ';:,.!?¡¿—…"«»“”(){}[]、。「」『』《》؛،؟।'
"""Punctuation marks that are phones."""
# A point or comma within a number (3.14) or an abbreviation (U.S.A) is espeak-ng's to read.
_WITHIN = r"(?<=\d)[.,:](?=\d)|(?<=\b[^\W\d_])\.(?=[^\W\d_]\b)"
_PIECES = re.compile(rf"((?:{_WITHIN}|[^{re.escape(MARKS)}])+)")
# espeak-ng's Japanese has no kanji: it would say "Chinese letter" for each.
_UNREADABLE = {"ja": re.compile("[\u3400-\u9fff\uf900-\ufaff]")}


class Ipa(str):
    """Words whose phones are given, among parts of a text."""


def phonemize(texts: Sequence[str], language: str) -> list[list[str]]:
    """Phones of each text, as a list of strings; empty for a text that holds nothing to say.

    `language` is a code of ISO 639-1, of Whisper (`en`, `zh`), or with a region (`pt-BR`). Texts do not influence each
    other. Raises EspeakError for a language that espeak-ng does not have, or a script that it cannot read in it.
    """
    voice_of(language)
    return [phonemize_parts([text], language) for text in texts]


def phonemize_parts(parts: Sequence[str], language: str) -> list[str]:
    """Phones of one text, of which some parts may be `Ipa`; the others do not influence each other."""
    engine, said = _engine(voice_of(language)), []
    for part in parts:
        if isinstance(part, Ipa):
            said.append((False, str(part)))
        else:
            pieces = _pieces(part)
            _check_script(pieces, language)
            said += [(mark, piece if mark else engine.ipa(piece)) for mark, piece in pieces]
    return _phones(said)


@lru_cache(maxsize=8)
def _engine(voice: str) -> Espeak:
    """Each takes a few megabytes."""
    engine = Espeak()
    engine.set_language(voice)
    return engine


def _pieces(text: str) -> list[tuple[bool, str]]:
    """(is a run of marks and spaces, the run) of the text."""
    pieces: list[tuple[bool, str]] = []
    clean = "".join(" " if unicodedata.category(char) == "Cc" else char for char in text)
    for index, piece in enumerate(_PIECES.split(clean)):
        words = piece.strip()
        if index % 2 == 0 or not words:
            pieces.append((True, piece))
        else:
            # Spaces around words stay, whatever espeak-ng makes of the words.
            before, after = piece.split(words, 1)
            pieces += [(True, before), (False, words), (True, after)]
    return pieces


def _check_script(pieces: Sequence[tuple[bool, str]], language: str) -> None:
    unreadable = _UNREADABLE.get(voice_of(language))
    for mark, chunk in pieces:
        found = unreadable.search(chunk) if unreadable and not mark else None
        if found:
            raise EspeakError(f"espeak-ng cannot read {found.group()!r} in language {language!r}")


def _phones(pieces: Sequence[tuple[bool, str]]) -> list[str]:
    phones: list[str] = []
    for is_mark, piece in pieces:
        for char in piece:
            if char.isspace():
                if phones and phones[-1] != " ":
                    phones.append(" ")
            elif is_mark:
                phones.append(char)
            elif char != "-":  # espeak-ng's sign for a word that leans on the next one
                _say(phones, char)
    return phones[:-1] if phones[-1:] == [" "] else phones


def _say(phones: list[str], char: str) -> None:
    # A point among espeak-ng's phones is a sign of Mandarin's retroflex sounds, a digit a tone.
    modifies = char == "." or unicodedata.category(char) in ("Lm", "Mn", "Nd", "No")
    if modifies and phones and phones[-1] != " " and phones[-1] not in MARKS:
        phones[-1] += char
    else:
        phones.append(char)
