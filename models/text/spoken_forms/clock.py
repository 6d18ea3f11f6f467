"""Times of day."""

from __future__ import annotations

import re

from models.text.spoken_forms.language import Language, Rule
from models.text.spoken_forms.numbers import cardinal

_HALF_DAY = re.compile(r"\s*[ap]\.?m\b", re.IGNORECASE)
_DOTTED = {"de": r"(?=\s?Uhr\b)", "nl": r"(?=\s?uur\b)", "en": r"(?=\s?[apAP]\.?[mM]\b)"}
"""What must follow `10.30` for it to be a time."""


def rules(language: Language) -> tuple[Rule, ...]:
    """Hours and minutes, and hours alone where a letter marks them."""
    hour, minute = r"(?<![\d:.,])(?P<hour>[01]?\d|2[0-4])", r"(?P<minute>[0-5]\d)"
    found = [
        Rule(
            rf"{hour}:{minute}(?::(?P<second>[0-5]\d))?(?![\d:])(?:{language.time_tail})?",
            _time,
        )
    ]
    if language.code in _DOTTED:
        found.append(
            Rule(
                rf"{hour}\.{minute}(?P<second>(?!))?(?!\d){_DOTTED[language.code]}(?:{language.time_tail})?",
                _time,
            )
        )
    if language.code == "it":
        found.append(
            Rule(rf"(?:(?<=\balle\s)|(?<=\bore\s)){hour}\.{minute}(?P<second>(?!))?(?![\d.])", _time)
        )
    if language.hour_letter:
        found.append(Rule(rf"{hour}\s?[hH]\s?(?:{minute})(?P<second>(?!))?(?:min)?(?!\w)", _time))
        found.append(Rule(rf"{hour}\s?h(?P<minute>(?!))?(?P<second>(?!))?(?!\w|/)", _hours))
    return tuple(found)


def _time(match: re.Match[str], language: Language) -> str | None:
    hour, minute = int(match["hour"]), match["minute"]
    if hour == 24 and minute != "00":
        return None
    hours = _hour(hour, language)
    if minute == "00" and not match["second"]:
        if _HALF_DAY.match(match.string, match.end()):
            return hours
        return _full(hour, language)
    said = cardinal(int(minute), language)
    if minute[0] == "0":
        if language.code == "en" and int(minute):
            said = f"oh {said}"
        if language.code == "zh":
            said = "零" + said if int(minute) else said
    form = language.time
    if hour < 2 and language.code == "fr":
        form = form.replace("heures", "heure")
    words = form.format(hour=hours, minute=said)
    return f"{words}{_seconds(match['second'], language)}" if match["second"] else words


def _hours(match: re.Match[str], language: Language) -> str:
    """`21h` as an hour, of the clock or of a while."""
    hour = int(match["hour"])
    noun = {"fr": ("heure", "heures"), "pt": ("hora", "horas")}[language.code][hour > 1]
    return f"{_hour(hour, language)} {noun}"


def _full(hour: int, language: Language) -> str:
    if hour == 1 and language.one_hour:
        return language.one_hour
    return language.full_hour.format(hour=_hour(hour, language))


def _hour(hour: int, language: Language) -> str:
    if language.code == "zh" and hour == 2:
        return "两"
    return cardinal(hour, language, language.hour_gender)


def _seconds(written: str, language: Language) -> str:
    seconds = cardinal(int(written), language)
    if language.code in ("ja", "zh"):
        return seconds + "秒"
    noun = {
        "en": ("second", "seconds"),
        "de": ("Sekunde", "Sekunden"),
        "fr": ("seconde", "secondes"),
        "es": ("segundo", "segundos"),
        "it": ("secondo", "secondi"),
        "pt": ("segundo", "segundos"),
        "nl": ("seconde", "seconden"),
    }[language.code][written != "01"]
    gender = {"de": "f", "fr": "f", "es": "m", "it": "m", "pt": "m"}.get(language.code, "")
    seconds = cardinal(int(written), language, gender)  # type: ignore[arg-type]
    return f" {language.conjunction} {seconds} {noun}"
