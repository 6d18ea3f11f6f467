"""Dates: days with a month's name, dates of numbers alone, and German ordinals, which a dot marks."""

from __future__ import annotations

import re
from calendar import monthrange

from models.text.spoken_forms.language import Language, Rule, word_after, word_before, words
from models.text.spoken_forms.numbers import cardinal, gender_of, ordinal, year

_WEAK = frozenset(
    words("am im vom zum zur beim den dem des ab bis seit nach vor von einer eines einem diesem dieser")
)
"""German words before an ordinal that ends in -n."""
_RANKED = "posto|piano|premio|anno|capitolo|giorno|secolo|tempo|livello|articolo|classificato"
"""Italian nouns before which a degree sign stands for º."""
_PLAIN = frozenset(words("die das jede diese eine"))
_ARTICLES = frozenset({"the"})
_SHORT = dict(
    zip(
        ["Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sept", "Sep", "Oct", "Nov", "Dec"],
        (1, 2, 3, 4, 6, 7, 8, 9, 9, 10, 11, 12),
        strict=True,
    )
)


def rules(language: Language) -> tuple[Rule, ...]:
    """Dates, the most complete form first."""
    months = "|".join(re.escape(month) for month in sorted(language.months, key=len, reverse=True))
    if language.code == "en":
        months += "|" + "|".join(rf"{short}\b\.?" for short in _SHORT)
    found: tuple[Rule, ...] = (
        Rule(
            r"(?<![\d./-])(?P<year>\d{4})(?P<by>[-/.])(?P<month>\d{1,2})(?P<again>[-/.])(?P<day>\d{1,2})(?![\d/-]|\.\d)",
            _year_first,
        ),
        Rule(
            r"(?<![\d./-])(?P<a>\d{1,2})(?P<by>[-/.])(?P<b>\d{1,2})(?P<again>[-/.])(?P<year>\d{4}|\d{2})(?![\d/-]|\.\d)",
            _year_last,
        ),
        Rule(r"(?<![\d./-])(?P<a>\d{1,2})/(?P<b>\d{1,2})(?![\d/]|\.\d)", _day_and_month),
    )
    if language.code == "en":
        return (
            *found,
            Rule(
                rf"\b(?P<month>{months})\s(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?P<tail>,?\s(?P<year>\d{{4}}))?(?!\w|[:/%€]|\.\d|\s?%)",
                _english,
            ),
            Rule(
                rf"(?<![\d.,:/-])(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:\sof)?\s(?P<month>{months})(?P<tail>,?\s(?P<year>\d{{4}}))?(?!\w)",
                _english,
            ),
        )
    if language.code == "de":
        return (
            *found,
            Rule(rf"(?<![\d.,])(?P<day>\d{{1,2}})\.\s?(?P<name>{months})\b", _german),
            Rule(r"(?<![\d.,])(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.(?!\d)", _german_numbers),
            Rule(r"(?<![\d.,])(?P<number>\d{1,2})\.(?=\s[^\W\d_])", _german_ordinal),
        )
    if language.code == "it":
        found = (*found, Rule(rf"(?<![\w.,])(?P<number>\d{{1,2}})°(?=\s(?:{_RANKED})\b)", _italian_ordinal))
    first = {
        "fr": rf"1(?=\s(?:{months})\b)",
        "it": rf"1°?(?=\s(?:{months})\b)",
        "pt": rf"1(?=\sde\s(?:{months})\b)",
    }
    if language.code in first:
        return (*found, Rule(rf"(?<![\w.,/-]){first[language.code]}", _first_day))
    return found


def said(day: int, month: int, of_year: str, language: Language, before: str = "") -> str:
    """A date in words; `of_year` as it is written, empty if it is left out, `before` the word before it."""
    if language.code in ("ja", "zh"):
        years = year(int(of_year), language) + "年" if of_year else ""
        return f"{years}{language.months[month - 1]}{cardinal(day, language)}日"
    years = ""
    if of_year:
        years = cardinal(int(of_year), language) if len(of_year) == 2 else year(int(of_year), language)
    words = _day(day, language, before)
    form = language.date if of_year else language.date.split("{year}")[0].strip().removesuffix(" de")
    return form.format(day=words, month=language.months[month - 1], year=years).strip()


def is_date(day: int, month: int, of_year: str = "") -> bool:
    """True if there is such a day."""
    if not 1 <= month <= 12:
        return False
    leap = int(of_year) if len(of_year) == 4 and int(of_year) else 2000
    return 1 <= day <= monthrange(leap, month)[1]


def _day(day: int, language: Language, before: str) -> str:
    if language.code == "en":
        return ordinal(day, language)
    if language.code == "de":
        return _declined(ordinal(day, language), before)
    if day == 1 and language.code in ("fr", "it", "pt"):
        return ordinal(1, language)
    return cardinal(day, language)


def _declined(words: str, before: str) -> str:
    """A German ordinal after a word; without one, as `3. Mai` is read alone."""
    if before in _WEAK:
        return words + "n"
    return words if before == "der" or before in _PLAIN else words + "r"


def _year_first(match: re.Match[str], language: Language) -> str | None:
    day, month = int(match["day"]), int(match["month"])
    if match["by"] != match["again"] or not is_date(day, month, match["year"]):
        return None
    return said(day, month, match["year"], language, word_before(match).lower())


def _year_last(match: re.Match[str], language: Language) -> str | None:
    if match["by"] != match["again"]:
        return None
    short = len(match["year"]) == 2
    if short and (language.code in ("ja", "zh") or len(match["a"] + match["b"]) < 4 or match["by"] == "-"):
        return None
    found = _day_month(match, language)
    if found is None:
        # Two readings, or none: a date all the same, unless a version has dots.
        return None if match["by"] == "." else match[0]
    if not is_date(*found, match["year"]):
        return None
    before = word_before(match).lower()
    words = said(*found, match["year"], language, before)
    if language.code == "en" and match["by"] == "." and before not in _ARTICLES:
        return (
            f"the {ordinal(found[0], language)} of {language.months[found[1] - 1]} {words.split(' ', 2)[2]}"
        )
    return words


def _day_month(match: re.Match[str], language: Language) -> tuple[int, int] | None:
    """Tell the day from the month of two numbers. Languages with one order take no other."""
    first, second = int(match["a"]), int(match["b"])
    day_first = True if match.re.groupindex.get("by") and match["by"] == "." else language.day_first
    if day_first is None:
        if first > 12 or first == second:
            day_first = True
        elif second > 12:
            day_first = False
        else:
            return None
    day, month = (first, second) if day_first else (second, first)
    return (day, month) if is_date(day, month) else None


def _day_and_month(match: re.Match[str], language: Language) -> str | None:
    if word_before(match).lower() not in language.date_words:
        return None
    found = _day_month(match, language)
    if found is None:
        return match[0]
    return said(*found, "", language, word_before(match).lower())


def _english(match: re.Match[str], language: Language) -> str | None:
    day = int(match["day"])
    if not 1 <= day <= 31:
        return None
    words, tail = ordinal(day, language), ""
    written = match["month"].rstrip(".")
    month = language.months[_SHORT[written] - 1] if written in _SHORT else written
    if match["year"]:
        tail = match["tail"].replace(match["year"], year(int(match["year"]), language))
    if match.start("month") < match.start("day"):
        return f"{month} {words}{tail}"
    article = "" if word_before(match).lower() in _ARTICLES else "the "
    return f"{article}{words} of {month}{tail}"


def _german(match: re.Match[str], language: Language) -> str | None:
    if not 1 <= int(match["day"]) <= 31:
        return None
    return f"{_declined(ordinal(int(match['day']), language), word_before(match).lower())} {match['name']}"


def _german_numbers(match: re.Match[str], language: Language) -> str | None:
    day, month = int(match["day"]), int(match["month"])
    before = word_before(match).lower()
    if before not in language.date_words or not is_date(day, month):
        return None
    return said(day, month, "", language, before)


def _german_ordinal(match: re.Match[str], language: Language) -> str | None:
    """`der 3. Tag`, `im 19. Jahrhundert`: only after an article or preposition, else the dot may end a sentence."""
    before, word = word_before(match).lower(), word_after(match)
    number = int(match["number"])
    if number == 0:
        return None
    if before not in (_WEAK | _PLAIN | {"der", "jeder"}):
        opens = match.string[: match.start()].rstrip()[-1:] in ("", ",", ":", "(")
        ending = {"m": "r", "f": "", "n": "s"}.get(language.nouns.get(word.lower(), ""))
        return ordinal(number, language) + ending if opens and ending is not None else None
    words = ordinal(number, language)
    if before == "der" and gender_of(word, language) == "f":
        return words + "n"
    return _declined(words, before)


def _italian_ordinal(match: re.Match[str], language: Language) -> str | None:
    number = int(match["number"])
    return ordinal(number, language) if number else None


def _first_day(match: re.Match[str], language: Language) -> str:  # noqa: ARG001
    return ordinal(1, language)
