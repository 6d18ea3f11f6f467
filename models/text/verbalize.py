"""Numbers and symbols written out as they are said: "$5.50" -> "five dollars and fifty cents".

A language without rules keeps its numbers and symbols; quotes, dashes, widths and white space become plain in every
language. What a language's rules cannot say for certain keeps its written form. The rules stand in `spoken_forms/`,
one file per concern, one table per language.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

from models.text.normalize import normalize_transcript
from models.text.spoken_forms import clock, codes, dates, fractions, measures, money, numbers, ranges
from models.text.spoken_forms.chinese import CHINESE
from models.text.spoken_forms.dutch import DUTCH
from models.text.spoken_forms.english import ENGLISH
from models.text.spoken_forms.french import FRENCH
from models.text.spoken_forms.german import GERMAN
from models.text.spoken_forms.italian import ITALIAN
from models.text.spoken_forms.japanese import JAPANESE
from models.text.spoken_forms.language import Language, Rule
from models.text.spoken_forms.portuguese import BRAZILIAN, PORTUGUESE
from models.text.spoken_forms.spanish import SPANISH

EDITION = "2"
"""Of the spoken forms: raised whenever a text may be said otherwise. Systems record the one they were trained with."""

LANGUAGES = {
    **{
        one.code: one
        for one in (GERMAN, ENGLISH, SPANISH, FRENCH, ITALIAN, JAPANESE, DUTCH, PORTUGUESE, CHINESE)
    },
    "pt-br": BRAZILIAN,
    "en-us": replace(ENGLISH, day_first=False),
    **dict.fromkeys(("en-gb", "en-au", "en-nz", "en-ie", "en-in", "en-za"), replace(ENGLISH, day_first=True)),
}
"""By ISO 639-1 code, and by region where that says something else. A language that is not here has no rules."""

_PLAIN = (
    {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # full-width forms of ASCII
    | dict.fromkeys(map(ord, "‘’‚‛′`´"), "'")
    | dict.fromkeys(map(ord, "“”„‟«»″"), '"')
    | dict.fromkeys(map(ord, "‐‑‒−﹣"), "-")
    | dict.fromkeys(map(ord, "–―⸺⸻"), "—")
    | {ord("…"): "...", ord("℃"): "°C", ord("℉"): "°F", ord("￥"): "¥", ord("￡"): "£", ord("﹪"): "%"}
)
_HARD_SPACES = re.compile("(?<=\\d)[\u00a0\u2009\u202f](?=\\d{3})")
"""Thousands are grouped so in many languages, and nothing else is."""
_START = r"(?=[^a-mo-uw-z\s])"
"""No rule begins with white space or another small letter than the `v` of a version and the `n` of `n° 5`."""
_NAMES = re.compile(r"\(\?P<\w+>")


def verbalize(text: str, language: str) -> str:
    """`text` with its numbers and symbols written out in `language` (ISO 639-1, a region may follow).

    Dashes become `—`, quotes `"` and `'`.
    """
    plain = normalize_transcript(_HARD_SPACES.sub("", text)).translate(_PLAIN)
    tag = language.strip().lower().replace("_", "-")
    spoken_in = LANGUAGES.get(tag) or LANGUAGES.get(tag.partition("-")[0])
    return plain if spoken_in is None else normalize_transcript(_said(plain, spoken_in, tag))


def _said(text: str, language: Language, tag: str) -> str:
    """Each match of the leftmost rule that has words for it; the parts between stay."""
    anywhere, rules = _rules(tag if tag in LANGUAGES else language.code)
    pieces: list[str] = []
    at = 0
    found = anywhere.search(text)
    while found:
        pieces.append(text[at : found.start()])
        words, at = _words(found, rules, language)
        pieces.append(words)
        found = anywhere.search(text, at)
    pieces.append(text[at:])
    return "".join(pieces)


def _words(
    found: re.Match[str], rules: tuple[tuple[re.Pattern[str], Rule], ...], language: Language
) -> tuple[str, int]:
    """Words of the first rule that has some, set apart from letters beside it, and the end of its match."""
    for pattern, rule in rules:
        match = pattern.match(found.string, found.start())
        words = match and rule.say(match, language)
        if match and words is not None:
            return _apart(words, match, language), match.end()
    return found[0], found.end()


def _apart(words: str, match: re.Match[str], language: Language) -> str:
    if not language.separator or words == match[0]:
        return words
    before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
    is_symbol = match[0] in language.symbols
    lead = " " if before.isalnum() or is_symbol else ""
    joined = words.endswith("-")  # French "une demi-heure"
    return lead + words + (" " if not joined and (after.isalnum() or is_symbol) else "")


@cache
def _rules(tag: str) -> tuple[re.Pattern[str], tuple[tuple[re.Pattern[str], Rule], ...]]:
    """Everything that has words, the longest form first: one pattern that finds it, and each by itself."""
    language = LANGUAGES[tag]
    rules = (
        *clock.rules(language),
        *dates.rules(language),
        *codes.rules(language),
        *fractions.rules(language),
        *money.rules(language),
        *ranges.rules(language),
        *measures.rules(language),
        *numbers.rules(language),
        Rule("[" + re.escape("".join(language.symbols)) + "]", _symbol),
    )
    anywhere = "|".join(_NAMES.sub("(?:", rule.pattern) for rule in rules)
    # Letters of a script without spaces are no part of a number or a unit beside them.
    flags = 0 if language.separator else re.ASCII
    return (
        re.compile(f"{_START}(?:{anywhere})", flags),
        tuple((re.compile(rule.pattern, flags), rule) for rule in rules),
    )


def _symbol(match: re.Match[str], language: Language) -> str:
    return language.symbols[match[0]]
