"""A language's conventions as data: the tables that the rules of this folder read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Gender = Literal["", "m", "f", "n"]
"""Grammatical gender that a number agrees with; "" where it stands by itself."""


class Noun(NamedTuple):
    """A counted thing: its form after one, after any other number, and its gender."""

    one: str
    many: str
    gender: Gender = "m"


class Money(NamedTuple):
    """A currency: its unit, and the hundredth of it if people name it."""

    unit: Noun
    hundredth: Noun | None = None


@dataclass(frozen=True, eq=False)
class Language:
    """Conventions of one language. What a table lacks stays in the text as it is written."""

    code: str
    """ISO 639-1."""
    num2words: str
    """The name of its cardinals in num2words; empty for numbers of our own."""
    point: str
    """Between a number and its decimals, as written."""
    point_word: str
    grouping: str
    """Characters that group thousands."""
    minus: str
    plus: str
    dot: str
    """Said between the parts of versions and addresses."""
    conjunction: str
    """The word `and`."""
    until: str
    """Said for the dash of a range."""
    number_sign: str
    """Said for `#` and `No.` before a number; empty where a number needs another word order."""
    months: tuple[str, ...]
    symbols: Mapping[str, str]
    money: Mapping[str, Money]
    units: Mapping[str, Noun]
    powers: Mapping[str, str]
    """Said for a raised 2 or 3 after a variable or a number."""
    denominators: Mapping[int, tuple[str, str]]
    """Of fractions: after one, after more."""
    time: str = ""
    """Of `{hour}` and `{minute}`."""
    full_hour: str = ""
    one_hour: str = ""
    """As `full_hour`, at one o'clock."""
    time_tail: str = "(?!)"
    """Pattern of words after a written time that `time` says already."""
    hour_gender: Gender = ""
    """Of the hour in a time."""
    hour_letter: bool = False
    """True if `10h30` is a time."""
    money_joint: str = " "
    """Between units and hundredths."""
    magnitudes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What is written between a number and a currency (`million`, `bn`): said after one, after more."""
    magnitude_joint: str = ""
    """Between a magnitude and what is counted in it (Spanish `millones de euros`)."""
    ordinal_suffixes: Mapping[str, Gender] = field(default_factory=dict)
    """What makes digits an ordinal, as the `th` of `4th`, with the gender that it shows."""
    date: str = ""
    """Of `{day}`, `{month}` and `{year}`."""
    day_first: bool | None = True
    """Order of day and month in a date of numbers alone; None where readers differ."""
    date_words: frozenset[str] = frozenset()
    """Words before a day and month of numbers alone that make it a date, not a fraction."""
    chapters: frozenset[str] = frozenset()
    """Words before a Roman numeral that is said as a cardinal, in lower case."""
    rulers: frozenset[str] = frozenset()
    """Names before a Roman numeral that is said as the ordinal of a ruler."""
    nouns: Mapping[str, Gender] = field(default_factory=dict)
    """Gender of words that `endings` does not tell or tells wrongly."""
    endings: Mapping[str, Gender] = field(default_factory=dict)
    """Gender by the end of a noun, in the order of their trust."""
    particles: frozenset[str] = frozenset()
    """Words that follow a number without being counted by it."""
    separator: str = " "
    """Between words."""


class Rule(NamedTuple):
    """A written form and its words. `say` returns None to leave the match to later rules."""

    pattern: str
    """Without named back-references; it must not match an empty text."""
    say: Callable[[re.Match[str], Language], str | None]


def word_before(match: re.Match[str]) -> str:
    """The word that ends, a space or dot between, before a match; empty if there is none."""
    start = match.start()
    found = _BEFORE.search(match.string[max(0, start - 24) : start])
    return found[1] if found else ""


def word_after(match: re.Match[str]) -> str:
    """The word that begins after a match and one space at most; empty if there is none."""
    found = _AFTER.match(match.string, match.end())
    return found[1] if found else ""


_BEFORE = re.compile(r"(?<![^\W\d_])([^\W\d_]{1,20})\.?\s?\Z")
_AFTER = re.compile(r"\s?([^\W\d_]{1,30})")


def words(spaced: str) -> tuple[str, ...]:
    """The words of a text, in their order."""
    return tuple(spaced.split())


def any_of(keys: Mapping[str, object]) -> str:
    """A pattern of the keys, the longest first."""
    return "|".join(re.escape(word) for word in sorted(keys, key=len, reverse=True)) or "(?!)"
