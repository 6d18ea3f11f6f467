"""A transcript as words and phrases that give it back, character for character."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from models.text.normalize import UNSPACED

_OPENING = "\"'([{<«‹“‘„‚「『《〈（【¿¡"
_CLOSING = "\"')]}>»›”’“‘」』》〉）】"
_SENTENCE_END = ".!?…。！？؟۔।॥"
_CLAUSE_END = ",;:，；：、،؛—–"
_ABBREVIATIONS = re.compile(
    r"mr|mrs|ms|dr|prof|st|sr|jr|vs|vol|pp|fig|gen|capt|lt|rev|hon|e\.g|i\.e|cf|[^\W\d_]|"
    r"bzw|z\.b|u\.a|d\.h|nr|hr|fr|usw|sra|srta|dña|mme|mlle"
)
"""Single letters too: initials."""


class Word(NamedTuple):
    """A word with the punctuation that touches it; `spaced` tells whether white space goes before it."""

    text: str
    spaced: bool


class Boundary(IntEnum):
    """The unit of text that ends with a word."""

    WORD = 0
    CLAUSE = 1
    SENTENCE = 2


def split_words(text: str) -> list[Word]:
    """Words of a normalised text. Scripts without spaces give a word a character; punctuation joins its neighbour."""
    words: list[Word] = []
    for token in text.split():
        pieces = _characters(token) if UNSPACED.search(token) else [token]
        words += [Word(piece, spaced=index == 0 and bool(words)) for index, piece in enumerate(pieces)]
    return words


def join_words(words: Sequence[Word]) -> str:
    """The text of consecutive words, without white space around it."""
    return "".join(" " * (word.spaced and index > 0) + word.text for index, word in enumerate(words))


def boundary(word: Word) -> Boundary:
    """The unit that `word` ends, by its punctuation; abbreviations and initials end nothing."""
    bare = word.text.rstrip(_CLOSING) or word.text
    if bare[-1] in _SENTENCE_END:
        stem = bare[:-1].lstrip(_OPENING).lower()
        if bare[-1] == "." and _ABBREVIATIONS.fullmatch(stem):
            return Boundary.WORD
        return Boundary.SENTENCE
    return Boundary.CLAUSE if bare[-1] in _CLAUSE_END else Boundary.WORD


def phrases(words: Sequence[Word], max_characters: int = 120) -> list[range]:
    """Consecutive groups of words: sentences, the long ones split at clauses, or anywhere where there are none."""
    found: list[range] = []
    start = 0
    for index, word in enumerate(words):
        if boundary(word) is Boundary.SENTENCE or index == len(words) - 1:
            found += _split(words, range(start, index + 1), max_characters)
            start = index + 1
    return found


def _split(words: Sequence[Word], group: range, limit: int) -> list[range]:
    parts: list[range] = []
    start = group.start
    while start < group.stop:
        size, stop, clause = 0, start, None
        while stop < group.stop and (stop == start or size + len(words[stop].text) < limit):
            size += len(words[stop].text) + 1
            stop += 1
            if boundary(words[stop - 1]) is Boundary.CLAUSE and size > limit // 3:
                clause = stop
        if stop < group.stop and clause is not None:
            stop = clause
        parts.append(range(start, stop))
        start = stop
    return parts


def _characters(token: str) -> list[str]:
    pieces: list[str] = []
    pending = ""
    for char in token:
        own = bool(UNSPACED.match(char)) and char.isalnum()
        joins = pieces and not pending and not own and (not char.isalnum() or not UNSPACED.search(pieces[-1]))
        if joins and char not in _OPENING:
            pieces[-1] += char
        elif own or char.isalnum():
            pieces.append(pending + char)
            pending = ""
        else:
            pending += char
    if pending:
        pieces.append(pending)
    return pieces
