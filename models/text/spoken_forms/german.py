"""German."""

from models.text.spoken_forms.language import Gender, Language, Money, Noun, words

_CENT = Noun("Cent", "Cent")
_DOLLAR = Money(Noun("Dollar", "Dollar"), _CENT)
_US_DOLLAR = Money(Noun("US-Dollar", "US-Dollar"), _CENT)
_EURO = Money(Noun("Euro", "Euro"), _CENT)
_POUND = Money(Noun("Pfund", "Pfund", "n"), Noun("Penny", "Pence"))
_YEN = Money(Noun("Yen", "Yen"))

_FEMININE = words(
    "stunde minute sekunde woche person frau seite million milliarde tasse katze nacht meile tonne mark flasche "
    "zeile karte liste nummer stelle stufe klasse etage runde folge ausgabe auflage serie hälfte straße stadt kirche"
)
_NEUTER = words(
    "jahr kind haus buch bild prozent kilo pfund gramm kilogramm gramm mal bett zimmer stück land wort ei glas bier "
    "jahrhundert jahrzehnt kapitel spiel tor byte megabyte gigabyte auto tier"
)
_MASCULINE = words(
    "euro cent dollar yen tag monat mann meter kilometer zentimeter millimeter liter grad punkt platz teil hund "
    "löffel teelöffel esslöffel becher baum fall satz stock schritt gast spieler"
)


def _same(word: str, gender: Gender = "m") -> Noun:
    return Noun(word, word, gender)


GERMAN = Language(
    code="de",
    num2words="de",
    point=",",
    point_word="Komma",
    grouping=".'",
    minus="minus",
    plus="plus",
    dot="Punkt",
    conjunction="und",
    until="bis",
    number_sign="Nummer",
    months=tuple(
        words("Januar Februar März April Mai Juni Juli August September Oktober November Dezember")
    ),
    symbols={"&": "und", "+": "plus", "@": "at", "=": "gleich", "%": "Prozent", "×": "mal"},
    money={
        "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": _YEN, "JPY": _YEN, "CHF": Money(Noun("Schweizer Franken", "Schweizer Franken"), Noun("Rappen", "Rappen")),
    },
    units={
        "km/h": Noun("Kilometer pro Stunde", "Kilometer pro Stunde"),
        "m/s": Noun("Meter pro Sekunde", "Meter pro Sekunde"),
        "km²": _same("Quadratkilometer"),
        "m²": _same("Quadratmeter"),
        "qm": _same("Quadratmeter"),
        "cm²": _same("Quadratzentimeter"),
        "m³": _same("Kubikmeter"),
        "cm³": _same("Kubikzentimeter"),
        "km": _same("Kilometer"),
        "m": _same("Meter"),
        "cm": _same("Zentimeter"),
        "mm": _same("Millimeter"),
        "nm": _same("Nanometer"),
        "kg": _same("Kilogramm", "n"),
        "g": _same("Gramm", "n"),
        "mg": _same("Milligramm", "n"),
        "t": Noun("Tonne", "Tonnen", "f"),
        "l": _same("Liter"),
        "L": _same("Liter"),
        "ml": _same("Milliliter"),
        "ha": _same("Hektar"),
        "h": Noun("Stunde", "Stunden", "f"),
        "Std.": Noun("Stunde", "Stunden", "f"),
        "min": Noun("Minute", "Minuten", "f"),
        "Min.": Noun("Minute", "Minuten", "f"),
        "s": Noun("Sekunde", "Sekunden", "f"),
        "ms": Noun("Millisekunde", "Millisekunden", "f"),
        "Hz": _same("Hertz", "n"),
        "kHz": _same("Kilohertz", "n"),
        "MHz": _same("Megahertz", "n"),
        "GHz": _same("Gigahertz", "n"),
        "W": _same("Watt", "n"),
        "kW": _same("Kilowatt", "n"),
        "MW": _same("Megawatt", "n"),
        "kWh": Noun("Kilowattstunde", "Kilowattstunden", "f"),
        "V": _same("Volt", "n"),
        "MB": _same("Megabyte", "n"),
        "GB": _same("Gigabyte", "n"),
        "TB": _same("Terabyte", "n"),
        "dB": _same("Dezibel", "n"),
        "%": _same("Prozent", "n"),
        "°": _same("Grad"),
        "°C": _same("Grad Celsius"),
        "°F": _same("Grad Fahrenheit"),
    },
    powers={"²": "Quadrat", "³": "hoch drei"},
    denominators={
        2: ("halb", "halbe"), 3: ("Drittel", "Drittel"), 4: ("Viertel", "Viertel"), 5: ("Fünftel", "Fünftel"),
        6: ("Sechstel", "Sechstel"), 7: ("Siebtel", "Siebtel"), 8: ("Achtel", "Achtel"), 9: ("Neuntel", "Neuntel"),
        10: ("Zehntel", "Zehntel"),
    },
    time="{hour} Uhr {minute}",
    full_hour="{hour} Uhr",
    time_tail=r"\s?Uhr\b",
    hour_gender="n",
    money_joint=" und ",
    magnitudes={
        "Tausend": ("Tausend", "Tausend"),
        **dict.fromkeys(("Million", "Millionen", "Mio.", "Mio"), ("Million", "Millionen")),
        **dict.fromkeys(("Milliarde", "Milliarden", "Mrd.", "Mrd"), ("Milliarde", "Milliarden")),
        **dict.fromkeys(("Billion", "Billionen", "Bio.", "Bio"), ("Billion", "Billionen")),
    },
    date="{day} {month} {year}",
    date_words=frozenset({"am", "vom", "zum", "bis", "den", "ab", "seit"}),
    chapters=frozenset(words("kapitel teil band akt szene abschnitt artikel stufe phase klasse typ weltkrieg")),
    rulers=frozenset(
        words("ludwig heinrich friedrich wilhelm karl otto leopold maximilian ferdinand franz joseph georg philipp "
        "napoleon elisabeth katharina margarethe pius paul benedikt gregor leo innozenz johannes alexander "
        "nikolaus peter richard konrad albrecht rudolf")
    ),
    nouns={
        **dict.fromkeys(_MASCULINE, "m"), **dict.fromkeys(_FEMININE, "f"), **dict.fromkeys(_NEUTER, "n"),
    },
    endings=dict.fromkeys(("ung", "heit", "keit", "schaft", "tion", "tät"), "f"),
)  # fmt: skip
