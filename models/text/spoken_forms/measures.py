"""Numbers with a unit of measure, and raised powers."""

from __future__ import annotations

import re

from models.text.spoken_forms import numbers
from models.text.spoken_forms.language import Language, Noun, Rule, any_of, word_after, word_before


def rules(language: Language) -> tuple[Rule, ...]:
    """A number and a unit; a power after a variable, a number or a bracket."""
    number = numbers.pattern(language)
    found = [Rule(rf"{number}\s?(?P<unit>{any_of(_written(language))})(?![\w²³/^'])", _measure)]
    if language.code == "en":
        found.append(Rule(r"(?<![\w.,'])(?P<feet>\d)'\s?(?P<inches>\d{1,2})\"", _feet))
    if language.powers:
        found.append(Rule(r"(?:(?<=[\d)])|(?<=(?<![^\W\d_])[^\W\d_]))(?P<power>[²³])", _power))
    return tuple(found)


def counted(number: int, noun: Noun, language: Language) -> str:
    """So many of a thing."""
    if language.code == "zh" and number == 2:
        return "两" + noun.many
    form = noun.one if number == 1 or (language.code == "fr" and number == 0) else noun.many
    return language.separator.join([numbers.cardinal(number, language, noun.gender), form])


def quantity_of(match: re.Match[str], noun: Noun, language: Language) -> str:
    """A match of `numbers.pattern` and its unit."""
    digits = numbers.plain_digits(match["whole"])
    if match["decimals"] or numbers.is_serial(digits):
        singular = language.code == "fr" and digits in ("0", "1")
        return language.separator.join(
            [numbers.quantity(match, language), noun.one if singular else noun.many]
        )
    said = counted(int(digits), noun, language)
    return language.separator.join([*([language.minus] if match["sign"] else []), said])


def _written(language: Language) -> dict[str, Noun]:
    """Units as they are written, `° C` among them."""
    spaced = {f"° {sign[1]}": noun for sign, noun in language.units.items() if sign in ("°C", "°F")}
    return {**language.units, **spaced}


def _measure(match: re.Match[str], language: Language) -> str | None:
    unit = match["unit"].replace("° ", "°")
    noun = language.units[unit]
    if unit == "%" and language.code == "zh":
        return ("" if not match["sign"] else language.minus) + noun.many + _unsigned(match, language)
    if language.code == "en" and _qualifies(match):
        return f"{numbers.quantity(match, language)} {noun.one}"
    return quantity_of(match, noun, language)


def _unsigned(match: re.Match[str], language: Language) -> str:
    said = numbers.quantity(match, language)
    return said.removeprefix(language.minus) if match["sign"] else said


def _qualifies(match: re.Match[str]) -> bool:
    """English `a 5 km run`: the unit describes what follows, and has no plural."""
    return (
        match["unit"].isalpha()
        and word_before(match).lower() in ("a", "an", "another")
        and match.string[match.end() : match.end() + 1] == " "
        and word_after(match).islower()
    )


def _feet(match: re.Match[str], language: Language) -> str:
    feet, inches = (numbers.cardinal(int(match[name]), language) for name in ("feet", "inches"))
    return f"{feet} foot {inches}"


def _power(match: re.Match[str], language: Language) -> str:
    return language.powers[match["power"]]
