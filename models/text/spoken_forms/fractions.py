"""Fractions: `2/3`, `½`, `1½`, `2 1/2`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from models.text.spoken_forms.language import Gender, Language, Rule, word_after, word_before
from models.text.spoken_forms.numbers import cardinal, gender_of

_SIGNS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_IDIOMS = {"en": {"24/7": "twenty-four seven", "9/11": "nine eleven"}}


def rules() -> tuple[Rule, ...]:
    """Fractions of one, alone and after a whole number."""
    whole = r"(?:(?<![\d.,/:])(?P<whole>\d{1,3})%s)?"
    return (
        Rule(whole % r"\s?" + rf"(?P<sign>[{_SIGNS}])(?P<space>\s?)", _signed),
        Rule(
            whole % r"\s" + r"(?P<above>\d{1,3})/(?P<below>\d{1,3})(?![\d/]|[.,]\d)(?P<space>\s?)", _written
        ),
    )


def _signed(match: re.Match[str], language: Language) -> str | None:
    above, _, below = unicodedata.normalize("NFKC", match["sign"]).partition("⁄")
    return _fraction(match, int(above), int(below), language)


def _written(match: re.Match[str], language: Language) -> str | None:
    idiom = _IDIOMS.get(language.code, {}).get(match[0].strip())
    return (
        f"{idiom}{match['space']}"
        if idiom
        else _fraction(match, int(match["above"]), int(match["below"]), language)
    )


def _fraction(match: re.Match[str], above: int, below: int, language: Language) -> str:
    words = _words(match, above, below, language)
    return words if words == match[0] or words.endswith("-") else words + match["space"]


def _words(match: re.Match[str], above: int, below: int, language: Language) -> str:
    """The words; as written for what is none (`5/3`, `1/15`), which may be a score, a date or a page."""
    if not 0 < above < below or below not in language.denominators:
        return match[0]
    whole = match["whole"]
    if language.code in ("ja", "zh"):
        part = f"{cardinal(below, language)}分{'之' if language.code == 'zh' else 'の'}{cardinal(above, language)}"
        return part if not whole else f"{cardinal(int(whole), language)}{_AND[language.code]}{part}"
    if whole and int(whole):
        return _mixed(int(whole), above, below, match, language)
    if (above, below) == (1, 2):
        return _half(match, language)
    return _parts(above, below, language)


_AND = {"ja": "と", "zh": "又"}


def _parts(above: int, below: int, language: Language) -> str:
    one, many = language.denominators[below]
    if language.code == "nl" and above == 1:
        return f"een {one}"
    gender: Gender = "n" if language.code == "de" else "m"
    return f"{cardinal(above, language, gender)} {one if above == 1 else many}"


def _mixed(whole: int, above: int, below: int, match: re.Match[str], language: Language) -> str:
    code = language.code
    count = cardinal(whole, language)
    if (above, below) == (1, 2):
        if code == "de":
            return "eineinhalb" if whole == 1 else f"{count}einhalb"
        if code == "nl":
            return "anderhalf" if whole == 1 else f"{count} en een half"
        if code in ("es", "it", "pt", "fr") and gender_of(word_after(match), language) not in ("", "m"):
            return match[0]
        half = {"en": "a half", "fr": "demi", "es": "medio", "it": "mezzo", "pt": "meio"}[code]
        return f"{count} {language.conjunction} {half}"
    if code == "en" and above == 1:
        return f"{count} and a {language.denominators[below][0]}"
    return f"{count} {language.conjunction} {_parts(above, below, language)}"


def _half(match: re.Match[str], language: Language) -> str:
    """`1/2` before a noun has words of its own in most languages."""
    word = word_after(match) if match["space"] else ""
    if language.code == "en":
        return "half" if word in ("a", "an", "the") else "one half"
    gender = gender_of(word, language)
    if language.code == "de":
        gender = gender if word[:1].isupper() else ""
    if gender is None:
        return match[0]
    return _HALVES[language.code](gender, word_before(match).lower())


_HALVES: dict[str, Callable[[Gender, str], str]] = {
    "de": lambda gender, before: _german_half(gender, before),
    "fr": lambda gender, _: {"": "un demi", "m": "un demi-", "f": "une demi-", "n": ""}[gender],
    "es": lambda gender, _: {"": "un medio", "m": "medio", "f": "media", "n": ""}[gender],
    "it": lambda gender, _: {"": "un mezzo", "m": "mezzo", "f": "mezza", "n": ""}[gender],
    "pt": lambda gender, _: {"": "um meio", "m": "meio", "f": "meia", "n": ""}[gender],
    "nl": lambda gender, _: {"": "een half", "n": "een half", "m": "een halve", "f": "een halve"}[gender],
}


def _german_half(gender: Gender, before: str) -> str:
    if before in ("seit", "vor", "nach", "mit", "aus", "bei", "von", "zu", "in") and gender:
        return "einer halben" if gender == "f" else "einem halben"
    return {"": "ein halb", "m": "ein halber", "f": "eine halbe", "n": "ein halbes"}[gender]
