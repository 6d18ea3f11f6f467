"""English."""

from models.text.spoken_forms.language import Language, Money, Noun, words

_CENT = Noun("cent", "cents")
_DOLLAR = Noun("dollar", "dollars")
_PENNY = Noun("penny", "pence")

_MONEY = {
    "$": Money(_DOLLAR, _CENT),
    "US$": Money(Noun("US dollar", "US dollars"), _CENT),
    "C$": Money(Noun("Canadian dollar", "Canadian dollars"), _CENT),
    "CA$": Money(Noun("Canadian dollar", "Canadian dollars"), _CENT),
    "A$": Money(Noun("Australian dollar", "Australian dollars"), _CENT),
    "NZ$": Money(Noun("New Zealand dollar", "New Zealand dollars"), _CENT),
    "HK$": Money(Noun("Hong Kong dollar", "Hong Kong dollars"), _CENT),
    "€": Money(Noun("euro", "euros"), _CENT),
    "£": Money(Noun("pound", "pounds"), _PENNY),
    "¥": Money(Noun("yen", "yen")),
    "₹": Money(Noun("rupee", "rupees")),
    "₩": Money(Noun("won", "won")),
    "¢": Money(_CENT),
    "USD": Money(Noun("US dollar", "US dollars"), _CENT),
    "EUR": Money(Noun("euro", "euros"), _CENT),
    "GBP": Money(Noun("pound", "pounds"), _PENNY),
    "JPY": Money(Noun("yen", "yen")),
    "CHF": Money(Noun("Swiss franc", "Swiss francs"), _CENT),
}

_UNITS = {
    "km/h": Noun("kilometer per hour", "kilometers per hour"),
    "kph": Noun("kilometer per hour", "kilometers per hour"),
    "mph": Noun("mile per hour", "miles per hour"),
    "m/s": Noun("meter per second", "meters per second"),
    "km²": Noun("square kilometer", "square kilometers"),
    "m²": Noun("square meter", "square meters"),
    "cm²": Noun("square centimeter", "square centimeters"),
    "m³": Noun("cubic meter", "cubic meters"),
    "cm³": Noun("cubic centimeter", "cubic centimeters"),
    "km": Noun("kilometer", "kilometers"),
    "m": Noun("meter", "meters"),
    "cm": Noun("centimeter", "centimeters"),
    "mm": Noun("millimeter", "millimeters"),
    "nm": Noun("nanometer", "nanometers"),
    "mi": Noun("mile", "miles"),
    "ft": Noun("foot", "feet"),
    "yd": Noun("yard", "yards"),
    "kg": Noun("kilogram", "kilograms"),
    "g": Noun("gram", "grams"),
    "mg": Noun("milligram", "milligrams"),
    "lb": Noun("pound", "pounds"),
    "lbs": Noun("pound", "pounds"),
    "oz": Noun("ounce", "ounces"),
    "l": Noun("liter", "liters"),
    "L": Noun("liter", "liters"),
    "ml": Noun("milliliter", "milliliters"),
    "mL": Noun("milliliter", "milliliters"),
    "ha": Noun("hectare", "hectares"),
    "h": Noun("hour", "hours"),
    "hrs": Noun("hour", "hours"),
    "min": Noun("minute", "minutes"),
    "mins": Noun("minute", "minutes"),
    "sec": Noun("second", "seconds"),
    "ms": Noun("millisecond", "milliseconds"),
    "Hz": Noun("hertz", "hertz"),
    "kHz": Noun("kilohertz", "kilohertz"),
    "MHz": Noun("megahertz", "megahertz"),
    "GHz": Noun("gigahertz", "gigahertz"),
    "W": Noun("watt", "watts"),
    "kW": Noun("kilowatt", "kilowatts"),
    "MW": Noun("megawatt", "megawatts"),
    "kWh": Noun("kilowatt hour", "kilowatt hours"),
    "V": Noun("volt", "volts"),
    "kB": Noun("kilobyte", "kilobytes"),
    "KB": Noun("kilobyte", "kilobytes"),
    "MB": Noun("megabyte", "megabytes"),
    "GB": Noun("gigabyte", "gigabytes"),
    "TB": Noun("terabyte", "terabytes"),
    "dB": Noun("decibel", "decibels"),
    "%": Noun("percent", "percent"),
    "°": Noun("degree", "degrees"),
    "°C": Noun("degree Celsius", "degrees Celsius"),
    "°F": Noun("degree Fahrenheit", "degrees Fahrenheit"),
}

_MAGNITUDES = {
    **{word: (word, word) for word in ("thousand", "million", "billion", "trillion")},
    **dict.fromkeys(("k", "K"), ("thousand", "thousand")),
    **dict.fromkeys(("m", "M", "mn", "mln"), ("million", "million")),
    **dict.fromkeys(("b", "B", "bn"), ("billion", "billion")),
    **dict.fromkeys(("T", "tn", "trn"), ("trillion", "trillion")),
}

_RULERS = words(
    "henry edward george william richard james charles elizabeth mary louis napoleon philip frederick francis "
    "alexander nicholas peter catherine ivan paul pius benedict gregory leo innocent clement urban john ferdinand "
    "otto leopold victor constantine ramses ptolemy darius xerxes cleopatra gustav christian baldwin albert umberto"
)

ENGLISH = Language(
    code="en",
    num2words="en",
    point=".",
    point_word="point",
    grouping=",",
    minus="minus",
    plus="plus",
    dot="point",
    conjunction="and",
    until="to",
    number_sign="number",
    months=tuple(
        words("January February March April May June July August September October November December")
    ),
    symbols={
        "&": "and",
        "+": "plus",
        "@": "at",
        "=": "equals",
        "%": "percent",
        "×": "times",
        "÷": "divided by",
    },
    money=_MONEY,
    units=_UNITS,
    powers={"²": "squared", "³": "cubed"},
    denominators={
        2: ("half", "halves"),
        3: ("third", "thirds"),
        4: ("quarter", "quarters"),
        5: ("fifth", "fifths"),
        6: ("sixth", "sixths"),
        7: ("seventh", "sevenths"),
        8: ("eighth", "eighths"),
        9: ("ninth", "ninths"),
        10: ("tenth", "tenths"),
        12: ("twelfth", "twelfths"),
        16: ("sixteenth", "sixteenths"),
    },
    time="{hour} {minute}",
    full_hour="{hour} o'clock",
    time_tail=r"\s+o['’]clock",
    money_joint=" and ",
    magnitudes=_MAGNITUDES,
    ordinal_suffixes={"st": "", "nd": "", "rd": "", "th": ""},
    date="{month} {day} {year}",
    day_first=None,
    date_words=frozenset({"on", "until", "till", "since", "by", "dated"}),
    chapters=frozenset(
        words(
            "chapter part volume vol book act scene section phase stage type class grade level appendix war title "
            "article figure table step round episode season bowl mark"
        )
    ),
    rulers=frozenset(_RULERS),
)
