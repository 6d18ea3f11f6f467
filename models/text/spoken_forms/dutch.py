"""Dutch."""

from models.text.spoken_forms.language import Language, Money, Noun, words

_CENT = Noun("cent", "cent")
_EURO = Money(Noun("euro", "euro"), _CENT)
_DOLLAR = Money(Noun("dollar", "dollar"), _CENT)
_US_DOLLAR = Money(Noun("Amerikaanse dollar", "Amerikaanse dollar"), _CENT)
_POUND = Money(Noun("pond", "pond"), Noun("penny", "pence"))
_YEN = Money(Noun("yen", "yen"))


def _same(word: str) -> Noun:
    return Noun(word, word)


DUTCH = Language(
    code="nl",
    num2words="nl",
    point=",",
    point_word="komma",
    grouping=".'",
    minus="min",
    plus="plus",
    dot="punt",
    conjunction="en",
    until="tot",
    number_sign="nummer",
    months=tuple(
        words("januari februari maart april mei juni juli augustus september oktober november december")
    ),
    symbols={"&": "en", "+": "plus", "@": "apenstaartje", "=": "is gelijk aan", "%": "procent", "×": "keer"},
    money={
        "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": _YEN, "JPY": _YEN,
    },
    units={
        "km/h": _same("kilometer per uur"),
        "km/u": _same("kilometer per uur"),
        "m/s": _same("meter per seconde"),
        "km²": _same("vierkante kilometer"),
        "m²": _same("vierkante meter"),
        "cm²": _same("vierkante centimeter"),
        "m³": _same("kubieke meter"),
        "cm³": _same("kubieke centimeter"),
        "km": _same("kilometer"),
        "m": _same("meter"),
        "cm": _same("centimeter"),
        "mm": _same("millimeter"),
        "kg": _same("kilogram"),
        "g": _same("gram"),
        "mg": _same("milligram"),
        "l": _same("liter"),
        "L": _same("liter"),
        "ml": _same("milliliter"),
        "ha": _same("hectare"),
        "min": Noun("minuut", "minuten"),
        "s": Noun("seconde", "seconden"),
        "ms": Noun("milliseconde", "milliseconden"),
        "Hz": _same("hertz"),
        "kHz": _same("kilohertz"),
        "MHz": _same("megahertz"),
        "GHz": _same("gigahertz"),
        "W": _same("watt"),
        "kW": _same("kilowatt"),
        "kWh": _same("kilowattuur"),
        "V": _same("volt"),
        "MB": _same("megabyte"),
        "GB": _same("gigabyte"),
        "dB": _same("decibel"),
        "%": _same("procent"),
        "°": Noun("graad", "graden"),
        "°C": Noun("graad Celsius", "graden Celsius"),
        "°F": Noun("graad Fahrenheit", "graden Fahrenheit"),
    },
    powers={"²": "kwadraat", "³": "tot de derde"},
    denominators={
        2: ("half", "half"), 3: ("derde", "derde"), 4: ("kwart", "kwart"), 5: ("vijfde", "vijfde"),
        6: ("zesde", "zesde"), 7: ("zevende", "zevende"), 8: ("achtste", "achtste"), 9: ("negende", "negende"),
        10: ("tiende", "tiende"),
    },
    time="{hour} uur {minute}",
    full_hour="{hour} uur",
    time_tail=r"\s+uur\b",
    money_joint=" en ",
    magnitudes={
        "duizend": ("duizend", "duizend"),
        **dict.fromkeys(("miljoen", "mln", "mln.", "M"), ("miljoen", "miljoen")),
        **dict.fromkeys(("miljard", "mld", "mld.", "mrd"), ("miljard", "miljard")),
    },
    ordinal_suffixes={"e": "", "de": "", "ste": ""},
    date="{day} {month} {year}",
    date_words=frozenset({"op", "tot", "sinds", "van"}),
    chapters=frozenset(words("hoofdstuk deel band akte scène sectie artikel fase bijlage titel wereldoorlog")),
    rulers=frozenset(
        words("willem lodewijk hendrik karel filips napoleon elizabeth frederik leopold albert boudewijn george pius "
        "paulus johannes benedictus gregorius leo catharina alexander nicolaas peter")
    ),
    nouns={**dict.fromkeys(words("uur jaar pond glas brood ei kwartier"), "n"),
           **dict.fromkeys(words("liter kilo meter kilometer dag week maand minuut kop fles euro mijl pagina"), "m")},
    particles=frozenset(words("van de het en of in op is was voor met te aan bij")),
)  # fmt: skip
