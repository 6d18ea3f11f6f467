"""Sums of money: signs before and after, hundredths, and magnitudes such as `bn`."""

from __future__ import annotations

import re

from models.text.spoken_forms import measures, numbers
from models.text.spoken_forms.language import Language, Money, Rule, any_of, word_after, word_before


def rules(language: Language) -> tuple[Rule, ...]:
    """A currency before the number, and one after it; then magnitudes by themselves."""
    number, signs = numbers.pattern(language), any_of(language.money)
    if language.separator:
        words = {key: words for key, words in language.magnitudes.items() if len(key) > 1}
        magnitude = (
            rf"(?P<magnitude>(?:(?<=\d)(?:{any_of(language.magnitudes)})|\s(?:{any_of(words)}))(?![\w-]))?"
        )
        before_sign = rf"(?:\s?(?P<magnitude>{any_of(language.magnitudes)}))?"
    else:
        magnitude = before_sign = rf"(?P<magnitude>{any_of(language.magnitudes)})?"
    unsigned = number.replace(r"(?:(?<![\w.,)])(?P<sign>-))?", "")
    long = {
        key: value
        for key, value in language.magnitudes.items()
        if "." in key or key in ("mln", "mld", "Mrd", "Mds", "bn")
    }
    return (
        Rule(
            rf"(?P<sign>(?<![\w.,)])-)?(?<![A-Za-z])(?P<unit>{signs}|[A-Z]{{1,3}}\$)\s?{unsigned}{magnitude}",
            _money,
        ),
        Rule(rf"{number}{before_sign}\s?(?P<unit>{signs})(?![\w$])", _money),
        Rule(rf"{number}\s?(?P<magnitude>{any_of(long)})(?!\w)", _large),
    )


def _money(match: re.Match[str], language: Language) -> str | None:
    written = match["unit"]
    if written not in language.money:
        return match[0]
    if written.isalpha() and match.string[match.end("unit") : match.end("unit") + 1].isalpha():
        return None
    money = language.money[written]
    if match["magnitude"] and language.separator:
        return _magnified(match, money, language)
    return _sum(match, money, language)


def _magnified(match: re.Match[str], money: Money, language: Language) -> str:
    words = f"{_magnitude(match, language)} "
    if _qualifies(match, language):
        return words + money.unit.one
    joint = language.magnitude_joint
    if match["magnitude"].strip() in ("mil", "mila"):
        joint = ""
    if language.code == "fr" and money.unit.many[0] in "aeiou":
        joint = "d'"
    return words + joint + money.unit.many


def _large(match: re.Match[str], language: Language) -> str:
    """`5 Mio. Menschen`; what is counted follows with the preposition that the language wants."""
    word = word_after(match) if match.string[match.end() : match.end() + 1] == " " else ""
    joint = language.magnitude_joint.strip()
    return _magnitude(match, language) + (
        f" {joint}" if joint and word and word not in ("de", "di", "d") else ""
    )


def _magnitude(match: re.Match[str], language: Language) -> str:
    one, many = language.magnitudes[match["magnitude"].strip()]
    if match["whole"] == "1" and not match["decimals"]:
        gender = "f" if language.code == "de" else "m"
        return f"{language.minus + ' ' if match['sign'] else ''}{numbers.cardinal(1, language, gender)} {one}"  # type: ignore[arg-type]
    return f"{numbers.quantity(match, language, 'm')} {many}"


def _sum(match: re.Match[str], money: Money, language: Language) -> str:
    decimals, magnitude = match["decimals"] or "", match["magnitude"] or ""
    if language.code in ("ja", "zh") and (magnitude or money.hundredth is None):
        # A price's last zero is not said: ¥3.50 is three point five.
        return _unspaced(match, money, magnitude, language)
    digits = numbers.plain_digits(match["whole"])
    if len(decimals) == 2 and (money.hundredth or decimals == "00") and not numbers.is_serial(digits):
        parts = [(int(digits), money.unit), (int(decimals), money.hundredth or money.unit)]
        counts = [measures.counted(count, noun, language) for count, noun in parts if count]
        said = language.money_joint.join(counts) or measures.counted(0, money.unit, language)
        return language.separator.join([*([language.minus] if match["sign"] else []), said])
    if _qualifies(match, language):
        return f"{numbers.quantity(match, language)} {money.unit.one}"
    return _units(match, money, language)


def _units(match: re.Match[str], money: Money, language: Language) -> str:
    """A number of whole units, which may have decimals."""
    if language.code in ("fr", "es", "it", "pt") and not match["decimals"]:
        digits = numbers.plain_digits(match["whole"])
        if len(digits) > 6 and digits.endswith("000000") and not numbers.is_serial(digits):
            joint = (
                "d'" if language.code == "fr" and money.unit.many[0] in "aeiou" else language.magnitude_joint
            )
            return f"{numbers.quantity(match, language, money.unit.gender)} {joint}{money.unit.many}"
    return measures.quantity_of(match, money.unit, language)


def _unspaced(match: re.Match[str], money: Money, magnitude: str, language: Language) -> str:
    whole, decimals = match["whole"], (match["decimals"] or "").rstrip("0")
    said = numbers.whole_number(numbers.plain_digits(whole), language)
    if language.code == "zh" and whole == "2" and not decimals:
        said = "两"
    if decimals:
        said += language.point_word + numbers.in_digits(decimals, language)
    return (language.minus if match["sign"] else "") + said + magnitude + money.unit.many


def _qualifies(match: re.Match[str], language: Language) -> bool:
    """English `a $5 bill`: the currency describes what follows, and has no plural."""
    return (
        language.code == "en"
        and word_before(match).lower() in ("a", "an", "another")
        and match.string[match.end() : match.end() + 1] == " "
        and word_after(match).islower()
    )
