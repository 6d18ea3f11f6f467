"""Pronunciations of words that are said otherwise than their spelling says.

A lexicon is a list of entries in a YAML or JSON file:

    - {word: Nguyen, language: en, say: win}            respelled
    - {word: GIF, language: en, ipa: dʒˈɪf}             as espeak-ng writes it, with the stress before the vowel
    - {word: lieutenant, language: en, voice: en-gb, ipa: lɛftˈɛnənt}

An entry with both is respelled in texts and said by its IPA in phonemes; one with IPA alone leaves texts as they are.
Words are whole and of any case. An apostrophe before letters continues a word (`Nguyen's` is another one); scripts
without spaces have no whole words, so the longest entry at a place counts.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from models.text.espeak import voice_of
from models.text.normalize import UNSPACED, normalize_transcript
from models.text.phonemes import MARKS
from models.text.symbols import symbol_table

_NO_IPA = set(MARKS) - {"."}
_APOSTROPHES = {ord("’"): "'"}


@dataclass(frozen=True)
class Pronunciation:
    """One entry; at least one of `ipa` and `say` is given."""

    word: str
    language: str
    """ISO 639-1 for all regions of a language, or with a region (`en-gb`)."""
    voice: str = ""
    """Only where espeak-ng speaks with this voice (`en-gb`)."""
    ipa: str = ""
    say: str = ""

    def __post_init__(self) -> None:
        if not self.word or not _is_letter(self.word[0]):
            raise ValueError(f"word is {self.word!r}; it must begin with a letter or a digit")
        if not self.language:
            raise ValueError(f"word {self.word!r} has no language")
        if not (self.ipa or self.say):
            raise ValueError(f"word {self.word!r} has neither ipa nor say")
        known = symbol_table("ipa@1").ids
        # A point is a sign of Mandarin's retroflex sounds.
        odd = [
            char for char in unicodedata.normalize("NFD", self.ipa) if char not in known or char in _NO_IPA
        ]
        if odd:
            raise ValueError(f"word {self.word!r}: ipa {self.ipa!r} holds {odd[0]!r}, which is no IPA")


class Found(NamedTuple):
    """A piece of a text, and the entry whose word it is."""

    text: str
    entry: Pronunciation | None


class Lexicon:
    """Pronunciations, found in texts by word and language."""

    def __init__(self, entries: Sequence[Pronunciation] = ()) -> None:
        seen: set[tuple[str, str, str]] = set()
        for entry in entries:
            key = (entry.word.lower(), entry.language, entry.voice)
            if key in seen:
                raise ValueError(f"word {entry.word!r} stands twice in language {entry.language!r}")
            seen.add(key)
        self.entries = tuple(entries)
        self._words: dict[str, dict[str, list[Pronunciation]]] = {}

    @cached_property
    def sha256(self) -> str:
        """Of the entries, whatever their file looked like; empty without any."""
        return hashlib.sha256(self.to_json().encode()).hexdigest() if self.entries else ""

    def to_json(self) -> str:
        """A JSON file that `read_lexicon` reads back."""
        rows = [{key: value for key, value in asdict(entry).items() if value} for entry in self.entries]
        return json.dumps(rows, ensure_ascii=False, indent=0) + "\n"

    def find(self, text: str, language: str) -> list[Found]:
        """The text in pieces.

        EspeakError where an entry names a voice and espeak-ng does not have the language, or is missing.
        """
        words = self._in(language)
        if not words:
            return [Found(text, None)]
        plain = text.translate(_APOSTROPHES)
        pieces, begin, at = [], 0, 0
        while at < len(text):
            entry = _entry_at(plain, at, words)
            if entry is None:
                at += 1
                continue
            end = at + len(entry.word)
            pieces += [Found(text[begin:at], None), Found(text[at:end], entry)]
            begin = at = end
        return [*pieces, Found(text[begin:], None)]

    def respell(self, text: str, language: str) -> str:
        """The text with what entries `say` in place of their words."""
        return "".join(
            piece.entry.say if piece.entry and piece.entry.say else piece.text
            for piece in self.find(text, language)
        )

    def _in(self, language: str) -> dict[str, list[Pronunciation]]:
        """The entries that hold for a language, by the first run of letters of their word, the longest first."""
        code = language.strip().lower().replace("_", "-")
        if code not in self._words:
            nearest: dict[str, Pronunciation] = {}
            fitting = [one for one in self.entries if one.language in (code, code.partition("-")[0])]
            # The last one wins: of the region rather than the language, of the voice rather than of all.
            for entry in sorted(fitting, key=lambda one: (one.voice != "", one.language == code)):
                if not entry.voice or entry.voice == voice_of(language):
                    nearest[entry.word.lower()] = entry
            index: dict[str, list[Pronunciation]] = {}
            for word in sorted(nearest, key=len, reverse=True):
                index.setdefault(_run(word, 0), []).append(nearest[word])
            self._words[code] = index
        return self._words[code]


def read_lexicon(path: Path) -> Lexicon:
    """Read a YAML or JSON file. ValueError names the entry and what is wrong with it, OSError if there is no file."""
    text = path.read_text(encoding="utf-8")
    try:
        rows: Any = json.loads(text) if path.suffix == ".json" else _yaml(text)
        if not isinstance(rows, list):
            raise ValueError("it must hold a list of entries, each with word, language and ipa or say")
        return Lexicon([_entry(number, row) for number, row in enumerate(rows, 1)])
    except ValueError as error:
        raise ValueError(f"lexicon {path}: {' '.join(str(error).split())}") from None


def _entry(number: int, row: Any) -> Pronunciation:
    known = [field.name for field in fields(Pronunciation)]
    if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
        raise ValueError(f"entry {number} is {row!r}; it must map {', '.join(known)} to texts")
    unknown = sorted(row.keys() - set(known))
    if unknown:
        raise ValueError(f"entry {number} has the key {unknown[0]!r}; known: {', '.join(known)}")
    values = {key: normalize_transcript(value) for key, value in row.items()}
    for key in ("language", "voice"):
        values[key] = values.get(key, "").lower().replace("_", "-")
    try:
        return Pronunciation(
            **({"word": ""} | values | {"word": values.get("word", "").translate(_APOSTROPHES)})
        )
    except ValueError as error:
        raise ValueError(f"entry {number}: {error}") from None


def _yaml(text: str) -> Any:
    """Every scalar as written: `no` is a word."""
    import yaml

    try:
        return yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {error}") from None


def _entry_at(text: str, at: int, words: dict[str, list[Pronunciation]]) -> Pronunciation | None:
    if not _is_letter(text[at]) or (at > 0 and _joined(text[at - 1], text[at])):
        return None
    for entry in words.get(_run(text, at).lower(), ()):
        end = at + len(entry.word)
        if text[at:end].lower() == entry.word.lower() and _ends(text, end):
            return entry
    return None


def _run(text: str, at: int) -> str:
    """The letters from `at` on that belong together."""
    end = at + 1
    while end < len(text) and _joined(text[end - 1], text[end]):
        end += 1
    return text[at:end]


def _ends(text: str, end: int) -> bool:
    if text[end : end + 1] == "'" and not UNSPACED.match(text[end - 1]):
        return not _is_letter(text[end + 1 : end + 2])
    return end == len(text) or not _joined(text[end - 1], text[end])


def _joined(char: str, following: str) -> bool:
    """Both belong to one word, as far as they alone tell."""
    if unicodedata.category(following).startswith("M"):
        return True
    unspaced = UNSPACED.match(char) or UNSPACED.match(following)
    return not unspaced and _is_letter(char) and _is_letter(following)


def _is_letter(char: str) -> bool:
    return char != "" and (char.isalnum() or unicodedata.category(char).startswith("M"))
