"""Italian."""

from models.text.spoken_forms.language import Language, Money, Noun, words

_CENT = Noun("centesimo", "centesimi")
_EURO = Money(Noun("euro", "euro"), _CENT)
_DOLLAR = Money(Noun("dollaro", "dollari"), _CENT)
_US_DOLLAR = Money(Noun("dollaro statunitense", "dollari statunitensi"), _CENT)
_POUND = Money(Noun("sterlina", "sterline", "f"), Noun("penny", "pence"))
_YEN = Money(Noun("yen", "yen", ""))

ITALIAN = Language(
    code="it",
    num2words="it",
    point=",",
    point_word="virgola",
    grouping=".'",
    minus="meno",
    plus="più",
    dot="punto",
    conjunction="e",
    until="a",
    number_sign="numero",
    months=tuple(
        words("gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre")
    ),
    symbols={"&": "e", "+": "più", "@": "chiocciola", "=": "uguale a", "%": "per cento", "×": "per"},
    money={
        "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": _YEN, "JPY": _YEN,
    },
    units={
        "km/h": Noun("chilometro orario", "chilometri orari"),
        "m/s": Noun("metro al secondo", "metri al secondo"),
        "km²": Noun("chilometro quadrato", "chilometri quadrati"),
        "m²": Noun("metro quadrato", "metri quadrati"),
        "mq": Noun("metro quadrato", "metri quadrati"),
        "cm²": Noun("centimetro quadrato", "centimetri quadrati"),
        "m³": Noun("metro cubo", "metri cubi"),
        "cm³": Noun("centimetro cubo", "centimetri cubi"),
        "km": Noun("chilometro", "chilometri"),
        "m": Noun("metro", "metri"),
        "cm": Noun("centimetro", "centimetri"),
        "mm": Noun("millimetro", "millimetri"),
        "kg": Noun("chilogrammo", "chilogrammi"),
        "g": Noun("grammo", "grammi"),
        "mg": Noun("milligrammo", "milligrammi"),
        "t": Noun("tonnellata", "tonnellate", "f"),
        "l": Noun("litro", "litri"),
        "L": Noun("litro", "litri"),
        "ml": Noun("millilitro", "millilitri"),
        "min": Noun("minuto", "minuti"),
        "s": Noun("secondo", "secondi"),
        "ms": Noun("millisecondo", "millisecondi"),
        "Hz": Noun("hertz", "hertz"),
        "kHz": Noun("kilohertz", "kilohertz"),
        "MHz": Noun("megahertz", "megahertz"),
        "GHz": Noun("gigahertz", "gigahertz"),
        "W": Noun("watt", "watt"),
        "kW": Noun("kilowatt", "kilowatt"),
        "kWh": Noun("kilowattora", "kilowattora"),
        "V": Noun("volt", "volt"),
        "MB": Noun("megabyte", "megabyte"),
        "GB": Noun("gigabyte", "gigabyte"),
        "dB": Noun("decibel", "decibel"),
        "%": Noun("per cento", "per cento", ""),
        "°": Noun("grado", "gradi"),
        "°C": Noun("grado Celsius", "gradi Celsius"),
        "°F": Noun("grado Fahrenheit", "gradi Fahrenheit"),
    },
    powers={"²": "al quadrato", "³": "al cubo"},
    denominators={
        2: ("mezzo", "mezzi"), 3: ("terzo", "terzi"), 4: ("quarto", "quarti"), 5: ("quinto", "quinti"),
        6: ("sesto", "sesti"), 7: ("settimo", "settimi"), 8: ("ottavo", "ottavi"), 9: ("nono", "noni"),
        10: ("decimo", "decimi"),
    },
    time="{hour} e {minute}",
    full_hour="{hour} in punto",
    time_tail=r"\s+in punto\b",
    hour_gender="f",
    money_joint=" e ",
    magnitudes={
        "mila": ("mila", "mila"),
        **dict.fromkeys(("milione", "milioni", "mln", "M"), ("milione", "milioni")),
        **dict.fromkeys(("miliardo", "miliardi", "mld"), ("miliardo", "miliardi")),
    },
    magnitude_joint="di ",
    ordinal_suffixes={"º": "m", ".º": "m", "ª": "f", ".ª": "f"},
    date="{day} {month} {year}",
    date_words=frozenset({"il", "dal", "al", "del"}),
    chapters=frozenset(words("capitolo parte tomo volume libro atto scena sezione articolo fase titolo")),
    rulers=frozenset(
        words("luigi enrico carlo filippo vittorio umberto emanuele elisabetta giorgio pio paolo giovanni benedetto "
        "gregorio leone innocenzo federico napoleone edoardo riccardo guglielmo caterina alessandro nicola")
    ),
    nouns={
        **dict.fromkeys(
            words(
                "problema programma sistema tema clima mese paese cane fiore piede ristorante studente giornale cuore "
            "pane nome bicchiere milione miliardo"), "m",
        ),
        **dict.fromkeys(words("mano notte volte parte chiave classe lettura nave madre moglie radio foto moto"), "f"),
    },
    endings={"zione": "f", "sione": "f", "tà": "f", "a": "f", "o": "m"},
    particles=frozenset(
        words("di del della e o a al in con per su da che è sono era non si più come ma la il lo i gli le ha hanno "
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre")
    ),
)  # fmt: skip
