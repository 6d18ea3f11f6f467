"""Cardinals, ordinals and digits as words, and how they agree with what is counted.

num2words makes the words, in one form for each number; its Spanish ordinals up to twentieth, "veintiuno mil" and the
Japanese 21000 are corrected here; Mandarin is made by `mandarin.py`.
"""

from __future__ import annotations

import re
from functools import lru_cache

from models.text.spoken_forms.language import Gender, Language, Rule, word_after, word_before, words
from models.text.spoken_forms.mandarin import mandarin

_LONGEST = 15
"""Digits; longer numbers are serial numbers, and said digit by digit."""
_YEARS = {
    "en": (*range(1100, 2000), *range(2010, 2100)),
    "de": range(1100, 2000),
    "nl": range(1100, 2000),
}
"""What these languages say in pairs of digits; others say years as any number."""
_SPANISH_ORDINALS = words(
    "primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo undécimo duodécimo decimotercero "
    "decimocuarto decimoquinto decimosexto decimoséptimo decimoctavo decimonoveno vigésimo"
)
DATIVE = frozenset({"seit", "vor", "nach", "mit", "aus", "bei", "von", "zu", "in"})
"""German prepositions of the dative, before lengths of time at least."""
_CLASSIFIERS = frozenset(
    "个個只隻条條张張本位名天次年岁歲件辆輛台杯瓶家座种種周点點双雙对對头頭匹棵朵片块塊支枝首部亿万份间間层層倍段篇句遍趟分秒"
)
"""Mandarin measure words before which two is 两."""


def pattern(language: Language) -> str:
    """A signed number as the language writes it: groups `sign`, `whole`, `decimals`."""
    groups, point = re.escape(language.grouping), re.escape(language.point)
    whole = rf"\d{{1,3}}(?:[{groups}]\d{{3}})++(?!\d)|\d++"
    return rf"(?:(?<![\w.,)])(?P<sign>-))?(?P<whole>{whole})(?:{point}(?P<decimals>\d++))?"


def rules(language: Language) -> tuple[Rule, ...]:
    """Ordinals and plain numbers."""
    return (
        Rule(
            r"(?<![\w.,])(?P<digits>\d{1,3}(?:,\d{3}){1,3}|\d{1,9})(?P<suffix>\.?[^\W\d_]{1,4})(?![\w])",
            _ordinal,
        ),
        Rule(r"(?<!\w)(?P<decade>\d{1,3}0)(?:'?s|er)\b", _decade),
        Rule(pattern(language), _plain),
    )


def plain_digits(written: str) -> str:
    """The digits of a number as ASCII, without grouping."""
    return "".join(str(int(char)) for char in written if char.isdecimal())


def in_digits(written: str, language: Language) -> str:
    """Digit by digit."""
    digits = plain_digits(written)
    return language.separator.join(cardinal(int(digit), language) for digit in digits)


@lru_cache(8192)
def cardinal(number: int, language: Language, gender: Gender = "") -> str:
    """The words of a whole number, as it stands alone or before a noun of `gender`."""
    if not language.num2words:
        return mandarin(number)
    return _agreeing(_num2words(number, language, "cardinal"), number, language.code, gender)


def ordinal(number: int, language: Language, gender: Gender = "m") -> str:
    """The words of an ordinal, in its dictionary form or the feminine one."""
    if language.code == "es" and number <= len(_SPANISH_ORDINALS):
        words = _SPANISH_ORDINALS[number - 1]
    elif language.code in ("ja", "zh"):
        return "第" + cardinal(number, language)
    else:
        words = _num2words(number, language, "ordinal")
    if gender != "f":
        return words
    if language.code == "fr":
        return "première" if number == 1 else words
    return re.sub(r"o\b", "a", words) if language.code in ("es", "it", "pt") else words


def year(number: int, language: Language) -> str:
    """The words of a year."""
    if language.code == "zh":
        return in_digits(str(number), language)
    if number not in _YEARS.get(language.code, ()):
        return cardinal(number, language)
    words = _num2words(number, language, "year")
    return words.replace(" ", "") if language.code == "nl" else words


def quantity(match: re.Match[str], language: Language, gender: Gender = "") -> str:
    """The words of a match of `pattern`, agreeing with a noun of `gender`; a point and decimals are said, too."""
    words = [language.minus] if match["sign"] else []
    digits, decimals = plain_digits(match["whole"]), match["decimals"]
    words.append(whole_number(digits, language, "" if decimals else gender))
    if decimals:
        words += [language.point_word, in_digits(decimals, language)]
    return language.separator.join(words)


def whole_number(digits: str, language: Language, gender: Gender = "") -> str:
    """The words of a number given by its digits, one by one if they are no quantity."""
    return in_digits(digits, language) if is_serial(digits) else cardinal(int(digits), language, gender)


def gender_of(word: str, language: Language) -> Gender | None:
    """Gender of a noun; "" for a word that is not counted, None where nobody knows."""
    lowered = word.lower()
    if not word or lowered in language.particles:
        return ""
    if lowered in language.nouns:
        return language.nouns[lowered]
    return next((gender for end, gender in language.endings.items() if lowered.endswith(end)), None)


def _plain(match: re.Match[str], language: Language) -> str | None:
    digits, code = plain_digits(match["whole"]), language.code
    if match["decimals"] or is_serial(digits):
        return quantity(match, language)
    number, following = int(digits), match.string[match.end() : match.end() + 1]
    if code == "zh":
        return ("" if not match["sign"] else language.minus) + _mandarin(match, digits, following, language)
    if match["whole"] == digits and not match["sign"] and number in _YEARS.get(code, ()):
        return year(number, language)
    word = word_after(match) if following == " " else ""
    gender = gender_of(word, language)
    if code == "de":
        return _german_one(match, word, language) if number == 1 else quantity(match, language)
    forms = {quantity(match, language, one) for one in ("", "m", "f")}
    if gender is None and len(forms) > 1:
        return match[0]
    if code == "it" and number == 1 and gender:
        return _italian_one(match, word, gender, language)
    return quantity(match, language, gender or "")


def _italian_one(match: re.Match[str], word: str, gender: Gender, language: Language) -> str:
    """`uno studente`, `un' ora`: the article follows the sound of the noun."""
    if match["sign"]:
        return quantity(match, language, gender)
    if gender == "f":
        return "un'" if word[0].lower() in "aeiouàèéìòù" else "una"
    return "uno" if re.match("s[bcdfglmnpqrtvz]|z|gn|ps|x|y", word.lower()) else "un"


def is_serial(digits: str) -> bool:
    """True for digits that are no quantity: too many, or led by 0."""
    return len(digits) > _LONGEST or (digits[0] == "0" and len(digits) > 1)


def _german_one(match: re.Match[str], word: str, language: Language) -> str:
    """`ein` by gender, declined after the prepositions of the dative; as written before a noun of unknown gender."""
    if word == "Uhr":
        return "ein"
    if not word[:1].isupper():
        return quantity(match, language)
    gender = gender_of(word, language)
    if gender is None:
        return match[0]
    if word_before(match).lower() in DATIVE:
        return "einer" if gender == "f" else "einem"
    counted = {
        noun.one for noun in (*language.units.values(), *(money.unit for money in language.money.values()))
    }
    if gender == "m" and word not in counted and match.string[: match.start()].strip():
        return match[0]  # it may be an object: "einen Hund"
    return "eine" if gender == "f" else "ein"


def _mandarin(match: re.Match[str], digits: str, following: str, language: Language) -> str:
    if following == "年" and len(digits) == 4:
        return in_digits(digits, language)
    if len(digits) == 11 and digits[0] == "1" and match["whole"] == digits:
        return in_digits(digits, language)
    if digits == "2" and following in _CLASSIFIERS and match.string[: match.start()][-1:] != "第":
        return "两"
    return cardinal(int(digits), language)


def _ordinal(match: re.Match[str], language: Language) -> str | None:
    suffix = match["suffix"].lower()
    if "," in match["digits"] and language.point != ".":
        return None
    number = int(plain_digits(match["digits"]))
    if suffix not in language.ordinal_suffixes or number == 0:
        return None
    words = ordinal(number, language, language.ordinal_suffixes[suffix])
    if language.code == "es" and suffix in ("er", ".er"):
        return words.removesuffix("o")
    return words


def _decade(match: re.Match[str], language: Language) -> str | None:
    ends_er = match[0].endswith("er")
    if language.code != ("de" if ends_er else "en"):
        return None
    words = year(int(match["decade"]), language)
    if ends_er:
        return words + "er"
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _agreeing(words: str, number: int, code: str, gender: Gender) -> str:
    if code == "es":
        return _spanish(_SHORTENED.sub(_shortened, words), gender)
    if code == "pt" and gender == "f":
        return _portuguese_feminine(words)
    if code == "fr" and gender == "f":
        return re.sub(r"\bun\Z", "une", words)
    if code == "it" and number == 1 and gender:
        return "una" if gender == "f" else "un"
    if code == "de" and number == 1 and gender:
        return "eine" if gender == "f" else "ein"
    return words.replace("万千", "万一千") if code == "ja" else words


_SHORTENED = re.compile(r"(veinti|\b)uno(?= mil)")


def _shortened(match: re.Match[str]) -> str:
    return "veintiún" if match[1] else "un"


def _spanish(words: str, gender: Gender) -> str:
    if gender == "m":
        return re.sub(r"veintiuno\Z", "veintiún", re.sub(r"\buno\Z", "un", words))
    if gender != "f":
        return words
    head, million, tail = words.rpartition("millones" if "millones" in words else "millón")
    tail = re.sub(r"(cient|quinient)os\b", r"\1as", tail).replace("veintiún mil", "veintiuna mil")
    return head + million + re.sub(r"uno\Z", "una", tail)


def _portuguese_feminine(words: str) -> str:
    head, million, tail = words.rpartition("milhões" if "milhões" in words else "milhão")
    tail = re.sub(r"\bdois\b", "duas", re.sub(r"\bum\b", "uma", tail))
    return head + million + re.sub(r"(zent|cent|hent)os\b", r"\1as", tail)


def _num2words(number: int, language: Language, to: str) -> str:
    try:
        from num2words import num2words  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(
            f"the number {number} is written out by num2words, which is not installed: add that package, "
            "or give a text without digits"
        ) from None
    words: str = num2words(number, lang=language.num2words, to=to)
    return words.replace(",", "")
