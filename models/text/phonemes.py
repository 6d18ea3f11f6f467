"""Text -> phonemes in the International Phonetic Alphabet, with espeak-ng (through phonemizer).

A phone is one character of espeak-ng's IPA with what modifies it: the marks of stress and length (`ˈ ˌ ː`) join the
phone before them, as in VALL-E's `.phn.txt` files, and so do diacritics and tone digits. Words are separated by the
phone " "; punctuation marks are phones of their own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

_VOICES = {
    "en": "en-us",
    "fr": "fr-fr",
    "zh": "cmn",
    "no": "nb",
    "nn": "nb",
    "iw": "he",
    "in": "id",
    "en-au": "en-gb",
    "en-nz": "en-gb",
    "zh-hk": "yue",
    "zh-yue": "yue",
}
"""Codes of ISO 639-1 and of Whisper whose espeak-ng voice has another name."""

_MARKS = ';:,.!?¡¿—…"«»“”(){}[]、。「」『』《》؛،؟।'
# A point or comma within a number (3.14) or an abbreviation (U.S.A) is espeak-ng's to read.
_WITHIN = r"(?<=\d)[.,:](?=\d)|(?<=\b[^\W\d_])\.(?=[^\W\d_]\b)"
_PIECES = re.compile(rf"((?:{_WITHIN}|[^{re.escape(_MARKS)}])+)")
# espeak-ng's Japanese has no kanji: it would say "Chinese letter" for each.
_UNREADABLE = {"ja": re.compile("[\u3400-\u9fff\uf900-\ufaff]")}


class PhonemeError(ValueError):
    """A language or a text that espeak-ng cannot say; the message names it."""


def phonemize(texts: Sequence[str], language: str) -> list[list[str]]:
    """Phones of each text, as a list of strings; empty for a text that holds nothing to say.

    `language` is a code of ISO 639-1, of Whisper (`en`, `zh`), or with a region (`pt-BR`). Texts do not influence each
    other. Raises PhonemeError for a language that espeak-ng does not have, or a script that it cannot read in it.
    """
    backend = _backend(_voice(language))
    split = [_pieces(text) for text in texts]
    for pieces in split:
        _check_script(pieces, language)
    said = iter(
        backend.phonemize([chunk for pieces in split for mark, chunk in pieces if not mark], strip=True)
    )
    return [_phones([(mark, chunk if mark else next(said)) for mark, chunk in pieces]) for pieces in split]


def check_language(language: str) -> None:
    """Raise PhonemeError for a language that espeak-ng does not have."""
    _voice(language)


@lru_cache(maxsize=256)
def _voice(language: str) -> str:
    known = _known_voices()
    code = language.strip().replace("_", "-").lower()
    for name in (code, code.partition("-")[0]):
        voice = _VOICES.get(name, name)
        if voice in known:
            return voice
    raise PhonemeError(
        f"espeak-ng has no voice for language {language!r}; give an ISO 639-1 code that it has"
    )


@lru_cache(maxsize=1)
def _known_voices() -> frozenset[str]:
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    return frozenset(EspeakBackend.supported_languages())


@lru_cache(maxsize=8)
def _backend(voice: str) -> Any:
    """Each has its own copy of espeak-ng, which takes memory."""
    import logging

    from phonemizer.backend import EspeakBackend

    quiet = logging.getLogger("speechmill.phonemes")
    quiet.setLevel(logging.CRITICAL)
    return EspeakBackend(
        voice,
        # Marks are cut out here: phonemizer's own way to restore them loses lines that hold nothing else.
        punctuation_marks=re.compile(r"(?!)"),
        with_stress=True,
        language_switch="remove-flags",
        logger=quiet,
    )


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
    unreadable = _UNREADABLE.get(_voice(language))
    for mark, chunk in pieces:
        found = unreadable.search(chunk) if unreadable and not mark else None
        if found:
            raise PhonemeError(f"espeak-ng cannot read {found.group()!r} in language {language!r}")


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
    if modifies and phones and phones[-1] != " " and phones[-1] not in _MARKS:
        phones[-1] += char
    else:
        phones.append(char)
