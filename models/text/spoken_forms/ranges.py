"""Ranges: `5-10 km`, `1990-1995`, `pages 12–15`; a score (`3-2`) is none."""

from __future__ import annotations

import re

from models.text.spoken_forms.language import Language, Rule, any_of
from models.text.spoken_forms.numbers import cardinal, year

_YEARS = range(1100, 2100)


def rules(language: Language) -> tuple[Rule, ...]:
    """The first number and the dash; the second is said by the rules that follow."""
    follows = rf"\s?(?:{any_of(language.units)})(?![\w²³/^'])|\s[^\W\d_A-Z]{{2}}"
    if language.code == "de":
        follows += r"|\sUhr\b"
    if not language.separator:
        follows += r"|[^\x00-\x7f]"
    return (
        Rule(rf"(?<![\w.,/:-])(?P<low>\d{{1,4}})\s?[-—]\s?(?=(?P<high>\d{{1,4}})(?:{follows}))", _range),
        Rule(
            r"(?<![\w.,/:-])(?P<low>\d{1,4})(?:—|\s—\s|-(?=\d{4}))(?=(?P<high>\d{1,4})(?![\w./:—-]|,\d))",
            _open,
        ),
    )


def _range(match: re.Match[str], language: Language) -> str | None:
    low, high = int(match["low"]), int(match["high"])
    if low >= high or match["low"][0] == "0":
        return None
    words = year(low, language) if low in _YEARS and high in _YEARS else cardinal(low, language)
    return f"{words}{language.separator}{language.until}{language.separator}"


def _open(match: re.Match[str], language: Language) -> str | None:
    """Numbers that a long dash joins, or two years."""
    is_long = "—" in match[0]
    years = int(match["low"]) in _YEARS and int(match["high"]) in _YEARS
    return _range(match, language) if is_long or years else None
