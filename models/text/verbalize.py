"""Numbers and symbols written out as they are said: "$5.50" -> "five dollars and fifty cents".

A language without rules (`spoken_forms.FORMS`) keeps its numbers and symbols; quotes, dashes, widths and white space
become plain in every language. Cardinals and ordinals are num2words'; decimals are said digit by digit.
"""

from __future__ import annotations

import re
from functools import cache

from models.text.normalize import normalize_transcript
from models.text.spoken_forms import FORMS, Money, SpokenForms, Unit

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
_YEARS = {"en": (*range(1100, 2000), *range(2010, 2100)), "de": range(1100, 2000)}
"""What these languages say in pairs of digits; others say years as any number."""
_LONGEST = 15
"""Digits; longer numbers are serial numbers, and said digit by digit."""


def verbalize(text: str, language: str) -> str:
    """`text` with its numbers and symbols written out in `language` (ISO 639-1, a region may follow).

    Verbalizing twice changes nothing more. Dashes become `—`, quotes `"` and `'`.
    """
    plain = normalize_transcript(_HARD_SPACES.sub("", text)).translate(_PLAIN)
    code = language.strip().lower().replace("_", "-").partition("-")[0]
    if code not in FORMS:
        return plain
    speaker = _Speaker(code, FORMS[code])
    return normalize_transcript(_pattern(code).sub(speaker.say, plain))


@cache
def _pattern(code: str) -> re.Pattern[str]:
    """Everything that has rules, the longest form first."""
    forms = FORMS[code]
    money = "|".join(re.escape(sign) for sign in sorted(forms.money, key=len, reverse=True))
    alternatives = [
        rf"(?<![\d:])(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?![\d:])(?:{forms.time_tail or '(?!)'})?",
        rf"{_SIGN.format(at=1)}(?P<before>{money})\s?" + _number_pattern(forms, 1) + _scale_pattern(forms, 1),
        _SIGN.format(at=2)
        + _number_pattern(forms, 2)
        + _scale_pattern(forms, 2)
        + rf"\s?(?P<after>{money})(?!\d)",
        _SIGN.format(at=3) + _number_pattern(forms, 3) + r"\s?(?P<unit>%|°(?:\s?(?P<scale>[CF])\b)?)",
        rf"(?<!\d)(?P<ordinal>\d{{1,{_LONGEST}}})(?:{forms.ordinal_suffixes or '(?!)'})\b",
        r"(?<!\w)(?P<decade>\d{1,3}0)'?s\b" if code == "en" else "(?P<decade>(?!))",
        _SIGN.format(at=4) + _number_pattern(forms, 4),
        "(?P<symbol>[" + re.escape("".join(forms.symbols)) + "])",
    ]
    return re.compile("|".join(alternatives))


_SIGN = r"(?:(?<![\w.,)])(?P<sign_{at}>-))?"


def _number_pattern(forms: SpokenForms, at: int) -> str:
    groups, point = re.escape(forms.grouping), re.escape(forms.point)
    return rf"(?P<number_{at}>\d{{1,3}}(?:[{groups}]\d{{3}})+(?!\d)|\d+)(?:{point}(?P<decimals_{at}>\d+))?"


def _scale_pattern(forms: SpokenForms, at: int) -> str:
    return rf"(?:\s(?P<scale_{at}>{forms.scales or '(?!)'})\b)?"


class _Speaker:
    """Says one match of `_pattern` in one language."""

    def __init__(self, code: str, forms: SpokenForms) -> None:
        self._code, self._forms = code, forms

    def say(self, match: re.Match[str]) -> str:
        """The words for the match, set apart from letters beside it."""
        words = self._words(match)
        if not self._forms.separator:
            return words
        before, after = match.string[: match.start()][-1:], match.string[match.end() :][:1]
        lead = " " if before.isalnum() or match["symbol"] else ""
        return lead + words + (" " if after.isalnum() or match["symbol"] else "")

    def _words(self, match: re.Match[str]) -> str:
        if match["hour"]:
            return self._time(match)
        if match["before"]:
            return self._money(match, "1", self._forms.money[match["before"]])
        if match["after"]:
            return self._money(match, "2", self._forms.money[match["after"]])
        if match["unit"]:
            return self._measure(match)
        if match["ordinal"]:
            return _num2words(int(match["ordinal"]), self._code, "ordinal")
        if match["decade"]:
            words = self._integer(match["decade"])
            return words[:-1] + "ies" if words.endswith("y") else words + "s"
        return self._forms.symbols[match["symbol"]] if match["symbol"] else self._number(match, "4")

    def _time(self, match: re.Match[str]) -> str:
        hour, minute = _cardinal(int(match["hour"]), self._code), match["minute"]
        if minute == "00":
            half_day = re.match(r"\s*[ap]\.?m\b", match.string[match.end() :], re.IGNORECASE)
            return hour if half_day else self._forms.full_hour.format(hour=hour)
        said = _cardinal(int(minute), self._code)
        if self._code == "en" and minute[0] == "0":
            said = f"oh {said}"
        return self._forms.time.format(hour=hour, minute=said)

    def _money(self, match: re.Match[str], at: str, money: Money) -> str:
        sign, decimals, scale = match[f"sign_{at}"], match[f"decimals_{at}"] or "", match[f"scale_{at}"]
        whole = self._digits(match[f"number_{at}"])
        if scale:
            joint, named = self._forms.scale_joint, money.unit[1]
            elided = "d'" if self._code == "fr" and named[0] in "ae" else joint
            return self._forms.separator.join([self._number(match, at), scale, elided + named])
        if money.hundredth is None or len(decimals) != 2:
            return self._counted(match, at, money.unit)
        parts = [(whole, money.unit), (decimals, money.hundredth)]
        counts = [self._count(int(digits), unit) for digits, unit in parts if int(digits)]
        said = self._forms.money_joint.join(counts) or self._count(0, money.unit)
        return self._forms.separator.join([*([self._forms.minus] if sign else []), said])

    def _measure(self, match: re.Match[str]) -> str:
        if match["unit"] == "%":
            if self._forms.percent_first:
                return self._forms.percent[1] + self._number(match, "3")
            return self._counted(match, "3", self._forms.percent)
        units = {"C": self._forms.celsius, "F": self._forms.fahrenheit, None: self._forms.degrees}
        return self._counted(match, "3", units[match["scale"]])

    def _counted(self, match: re.Match[str], at: str, unit: Unit) -> str:
        if self._digits(match[f"number_{at}"]) == "1" and not match[f"decimals_{at}"]:
            sign = [self._forms.minus] if match[f"sign_{at}"] else []
            return self._forms.separator.join([*sign, unit[0]])
        return self._forms.separator.join([self._number(match, at), unit[1]])

    def _count(self, number: int, unit: Unit) -> str:
        return (
            unit[0] if number == 1 else self._forms.separator.join([_cardinal(number, self._code), unit[1]])
        )

    def _number(self, match: re.Match[str], at: str) -> str:
        written = match[f"number_{at}"]
        words = [self._forms.minus] if match[f"sign_{at}"] else []
        decimals = match[f"decimals_{at}"]
        words.append(self._integer(written, is_year=at == "4" and not decimals))
        if decimals:
            words += [self._forms.point_word, *(_cardinal(int(digit), self._code) for digit in decimals)]
        return self._forms.separator.join(words)

    def _integer(self, written: str, is_year: bool = True) -> str:
        digits = self._digits(written)
        if len(digits) > _LONGEST or (digits[0] == "0" and len(digits) > 1):
            return self._forms.separator.join(_cardinal(int(digit), self._code) for digit in digits)
        number = int(digits)
        if is_year and written == digits and number in _YEARS.get(self._code, ()):
            return _num2words(number, self._code, "year")
        return _cardinal(number, self._code)

    @staticmethod
    def _digits(written: str) -> str:
        return "".join(str(int(char)) for char in written if char.isdecimal())


def _cardinal(number: int, code: str) -> str:
    return _chinese(number) if code == "zh" else _num2words(number, code, "cardinal")


def _num2words(number: int, code: str, to: str) -> str:
    try:
        from num2words import num2words  # type: ignore[import-untyped]
    except ImportError:
        raise ValueError(
            f"the number {number} is written out by num2words, which is not installed: add that package, "
            "or give a text without digits"
        ) from None
    words: str = num2words(number, lang=code, to=to)
    return words.replace(",", "")


def _chinese(number: int) -> str:
    """Mandarin for 0 <= number < 10^16, in groups of four digits."""
    if number == 0:
        return "零"
    groups = [
        (number // 10**power % 10**4, sign) for power, sign in ((12, "万亿"), (8, "亿"), (4, "万"), (0, ""))
    ]
    said = ""
    for group, sign in groups:
        if group:
            said += ("零" if said and group < 1000 else "") + _chinese_group(group) + sign
        elif said and not said.endswith("零") and sign == "":
            continue
    return said.removeprefix("一") if said.startswith("一十") else said


def _chinese_group(group: int) -> str:
    said, gap = "", False
    for power, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = group // power % 10
        if digit:
            said += ("零" if gap and said else "") + "零一二三四五六七八九"[digit] + sign
        gap = digit == 0
    return said
