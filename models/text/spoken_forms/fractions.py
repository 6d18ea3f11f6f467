"""Fractions: `2/3`, `½`, `1½`, `2 1/2`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from models.text.spoken_forms.language import Gender, Language, Noun, Rule, any_of, word_after, word_before
from models.text.spoken_forms.measures import counted
from models.text.spoken_forms.numbers import DATIVE, cardinal, gender_of

_SIGNS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
_IDIOMS = {"en": {"24/7": "twenty-four seven", "9/11": "nine eleven", "50/50": "fifty-fifty"}}


def rules(language: Language) -> tuple[Rule, ...]:
    """Fractions of one, alone and after a whole number; with a unit of measure first."""
    whole = r"(?:(?<![\d.,/:])(?P<whole>[1-9]\d{0,2})%s)?"
    sign = whole % r"\s?" + rf"(?P<sign>[{_SIGNS}])(?P<space>\s?)"
    slash = whole % r"\s" + r"(?P<above>\d{1,3})/(?P<below>\d{1,3})(?![\d/]|[.,]\d)(?P<space>\s?)"
    units = any_of({unit: noun for unit, noun in language.units.items() if unit[0].isalpha()})
    unit = rf"(?P<unit>{units})(?![\w²³/^'])"
    return (
        Rule(sign + unit, _measured),
        Rule(slash + unit, _measured),
        Rule(sign, _fraction),
        Rule(slash, _fraction),
    )


def _parts_of(match: re.Match[str], language: Language) -> tuple[int, int] | None:
    """Above and below the bar; None for what is no fraction (`5/3`, `1/15`): a score, a date or a page."""
    groups = match.groupdict()
    if "sign" in groups:
        above, _, below = unicodedata.normalize("NFKC", match["sign"]).partition("⁄")
    else:
        above, below = match["above"], match["below"]
    found = int(above), int(below)
    return found if 0 < found[0] < found[1] and found[1] in language.denominators else None


def _fraction(match: re.Match[str], language: Language) -> str:
    idiom = _IDIOMS.get(language.code, {}).get(match[0].strip())
    found = _parts_of(match, language)
    if idiom or found is None:
        return f"{idiom}{match['space']}" if idiom else match[0]
    words = _words(match, *found, language)
    return words if words == match[0] or words.endswith("-") else words + match["space"]


def _measured(match: re.Match[str], language: Language) -> str | None:
    """`½ kg`: a part of one, or so many and a part."""
    found, noun, code = _parts_of(match, language), language.units[match["unit"]], language.code
    if found is None or code == "nl":
        return None
    feminine = noun.gender == "f"
    if code in ("ja", "zh"):
        return _words(match, *found, language) + noun.many
    if match["whole"]:
        return _mixed_measure(match, noun, found, language)
    if found != (1, 2):
        joint = {"en": "of a ", "de": "", "it": "di "}.get(code, "de ")
        return f"{_parts(*found, language)} {joint}{noun.one}"
    if code == "en":
        return f"half a{'n' if noun.one[0] in 'aeiou' or noun.one == 'hour' else ''} {noun.one}"
    half = _HALVES[code]("f" if feminine else noun.gender, word_before(match).lower())
    return f"{half}{'' if half.endswith('-') else ' '}{noun.one}"


def _mixed_measure(
    match: re.Match[str], noun: Noun, found: tuple[int, int], language: Language
) -> str | None:
    whole, half = int(match["whole"]), found == (1, 2)
    if language.code in ("en", "de"):
        return f"{_mixed(whole, *found, match, language)} {noun.many}"
    if not half:
        return None
    ending = {
        "fr": ("demi", "demie"),
        "es": ("medio", "media"),
        "it": ("mezzo", "mezza"),
        "pt": ("meio", "meia"),
    }
    said = ending[language.code][noun.gender == "f"]
    return f"{counted(whole, noun, language)} {language.conjunction} {said}"


def _words(match: re.Match[str], above: int, below: int, language: Language) -> str:
    whole = match["whole"]
    if language.code in ("ja", "zh"):
        part = f"{cardinal(below, language)}分{'之' if language.code == 'zh' else 'の'}{cardinal(above, language)}"
        return part if not whole else f"{cardinal(int(whole), language)}{_AND[language.code]}{part}"
    if whole:
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
    if before in DATIVE and gender:
        return "einer halben" if gender == "f" else "einem halben"
    return {"": "ein halb", "m": "ein halber", "f": "eine halbe", "n": "ein halbes"}[gender]
