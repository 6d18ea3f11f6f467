"""Versions, addresses, telephone numbers, numbers of things (`#1`) and Roman numerals."""

from __future__ import annotations

import re

from models.text.spoken_forms.language import Gender, Language, Rule, word_after, word_before, words
from models.text.spoken_forms.numbers import cardinal, in_digits, ordinal

_PHONE_DIGITS = range(7, 16)
_QUEENS = frozenset(
    words(
        "isabel elisabetta élisabeth elisabeth elizabeth caterina catalina catarina catherine katharina maria"
    )
)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


def rules(language: Language) -> tuple[Rule, ...]:
    """Rules for digits that are no quantity."""
    suffix = {"fr": "(?P<suffix>er|re|ers|e|ème)?", "de": r"(?P<suffix>\.(?=\s[a-zäöü]|[,;:!?)]))?"}.get(
        language.code, "(?P<suffix>(?!))?"
    )
    return (
        Rule(r"(?<![\w.])\+\d{1,3}(?:[ \-./]?(?:\(\d{1,5}\)|\d{1,5})){1,6}(?!\w)", _international),
        Rule(r"(?<![\w.])(?:\(\d{3}\)\s?|\d{3}[-.])\d{3}[-.]\d{4}(?![\w-])", _american),
        *([Rule(r"(?<![\w.,-])\d{3}-\d{4}(?![\w-])", _american)] if language.code == "en" else []),
        Rule(r"(?<![\w.,])0\d(?:[ .]\d{2}){4}(?!\w|[.,]\d)", _french_phone),
        Rule(r"(?<![\w.,/-])0\d{1,4}[ /-]\d{3,9}(?:[ -]\d{1,6})?(?![\w/]|[.,-]\d)", _area),
        Rule(r"(?<![\w.])(?P<letter>[vV])(?P<parts>\d{1,9}(?:\.\d{1,9}){0,5})(?![\w/])", _version),
        Rule(r"(?<![\w.,])(?P<letter>)(?P<parts>\d{1,9}(?:\.\d{1,9}){1,7})(?!\w|,\d)", _dotted),
        Rule(
            r"(?:(?<!\w)#|\b(?:No\.|Nr\.?|[Nn]\.?[º°])\s?|№\s?)(?P<digits>\d{1,9})(?![\w/]|[.,]\d)",
            _numbered,
        ),
        Rule(rf"\b(?P<roman>[IVXLCDM]{{1,9}}){suffix}(?![\w'’-])", _roman),
    )


def _international(match: re.Match[str], language: Language) -> str | None:
    if sum(char.isdecimal() for char in match[0]) not in _PHONE_DIGITS or not re.search(
        r"\d[ \-./()]", match[0]
    ):
        return None
    return language.separator.join([language.plus, in_digits(match[0], language)])


def _american(match: re.Match[str], language: Language) -> str | None:
    return in_digits(match[0], language)


def _french_phone(match: re.Match[str], language: Language) -> str | None:
    if language.code != "fr":
        return in_digits(match[0], language)
    pairs = re.findall(r"\d\d", match[0])
    return " ".join(f"{'zéro ' if pair[0] == '0' else ''}{cardinal(int(pair), language)}" for pair in pairs)


def _area(match: re.Match[str], language: Language) -> str | None:
    """A number that begins with 0 and goes on in groups."""
    digits = sum(char.isdecimal() for char in match[0])
    return in_digits(match[0], language) if digits in _PHONE_DIGITS else None


def _version(match: re.Match[str], language: Language) -> str:
    return language.separator.join([match["letter"], _parts(match["parts"], language)])


def _dotted(match: re.Match[str], language: Language) -> str | None:
    """Digits with dots that are neither a decimal nor a grouped number."""
    parts = match["parts"].split(".")
    if len(parts) == 4 and all(int(part) < 256 for part in parts):
        dot = {"en": "dot", "ja": "ドット"}.get(language.code, language.dot)
        return f"{language.separator}{dot}{language.separator}".join(
            in_digits(part, language) for part in parts
        )
    grouped = "." in language.grouping and len(parts[0]) <= 3 and all(len(part) == 3 for part in parts[1:])
    if grouped or (len(parts) == 2 and language.point == "."):
        return None
    return _parts(match["parts"], language)


def _parts(written: str, language: Language) -> str:
    """Numbers of a version, a leading zero said."""
    said = [
        in_digits(part, language) if part[0] == "0" else cardinal(int(part), language)
        for part in written.split(".")
    ]
    joint = f"{language.separator}{language.dot}{language.separator}"
    return joint.join(said)


def _numbered(match: re.Match[str], language: Language) -> str | None:
    if not language.number_sign:
        return match[0]
    return f"{language.number_sign} {cardinal(int(match['digits']), language)}"


def _roman(match: re.Match[str], language: Language) -> str | None:
    number = _value(match["roman"])
    if not number:
        return match[0]
    suffix, word = match["suffix"] or "", word_before(match)
    before = word.lower()
    if suffix and suffix != "." and language.code == "fr":
        if number > 30 and match["roman"] not in ("C", "M"):
            return match[0]
        return ordinal(number, language, "f" if suffix == "re" else "m") if number > 0 else None
    if language.code == "it" and word_after(match) in ("secolo", "sec") and number < 30:
        return ordinal(number, language)
    follows = word_after(match) if match.string[match.end() : match.end() + 1] == " " else ""
    if (
        match["roman"] == "I"
        and follows.islower()
        and before not in ("chapter", "war", "type", "phase", "volume")
    ):
        return match[0]  # "the part I play"
    if before in language.chapters:
        if before == "século" and number <= 10:
            return ordinal(number, language)
        return cardinal(number, language) + suffix
    if before in language.rulers and word[:1].isupper():
        return _ruler(number, before, language)
    return match[0]


def _ruler(number: int, name: str, language: Language) -> str:
    gender: Gender = "f" if name in _QUEENS else "m"
    code = language.code
    said = ordinal(number, language, gender)
    if code == "en":
        return f"the {said}"
    if code == "nl":
        return f"de {said.capitalize()}"
    if code == "de":
        return f"{'die' if gender == 'f' else 'der'} {said.capitalize()}"
    if code == "it":
        return said
    if code == "fr":
        return said if number == 1 else cardinal(number, language)
    return said if number <= 10 else cardinal(number, language)


def _value(roman: str) -> int:
    """The number of a Roman numeral; 0 for what is none."""
    values = [_ROMAN[letter] for letter in roman]
    total = sum(
        -value if value < max(values[at + 1 :], default=0) else value for at, value in enumerate(values)
    )
    return total if 0 < total < 4000 and _written(total) == roman else 0


def _written(number: int) -> str:
    signs = zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        words("M CM D CD C XC L XL X IX V IV I"),
        strict=True,
    )
    said = ""
    for value, sign in signs:
        count, number = divmod(number, value)
        said += sign * count
    return said
