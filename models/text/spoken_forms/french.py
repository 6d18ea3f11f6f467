"""French."""

from models.text.spoken_forms.language import Gender, Language, Money, Noun, words

_CENT = Noun("cent", "cents")
_EURO = Money(Noun("euro", "euros"), Noun("centime", "centimes"))
_DOLLAR = Money(Noun("dollar", "dollars"), _CENT)
_US_DOLLAR = Money(Noun("dollar américain", "dollars américains"), _CENT)
_POUND = Money(Noun("livre", "livres", "f"), Noun("penny", "pence"))
_YEN = Money(Noun("yen", "yens"))

_FEMININE = words(
    "heure minute seconde année semaine journée fois personne femme fille page voiture maison place école chambre "
    "pièce table livre tonne œuvre chose porte rue ville boîte tasse bouteille ligne langue lettre victime vie main "
    "fleur partie équipe entreprise famille banane pomme carte photo chanson île"
)
_MASCULINE = words(
    "an jour mois siècle homme enfant ami euro dollar yen centime kilomètre mètre centimètre gramme kilo kilogramme "
    "litre degré point pays chat chien cheval élève étudiant lit mot numéro million milliard arbre objet film "
    "exemplaire pas gens étage verre groupe membre pour"
)


def _plurals(singular: tuple[str, ...], gender: Gender) -> dict[str, Gender]:
    return {form: gender for word in singular for form in (word, word + "s")}


FRENCH = Language(
    code="fr",
    num2words="fr",
    point=",",
    point_word="virgule",
    grouping=". ",
    minus="moins",
    plus="plus",
    dot="point",
    conjunction="et",
    until="à",
    number_sign="numéro",
    months=tuple(
        words("janvier février mars avril mai juin juillet août septembre octobre novembre décembre")
    ),
    symbols={"&": "et", "+": "plus", "@": "arobase", "=": "égale", "%": "pour cent", "×": "fois"},
    money={
        "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": _YEN, "JPY": _YEN, "CHF": Money(Noun("franc suisse", "francs suisses"), Noun("centime", "centimes")),
    },
    units={
        "km/h": Noun("kilomètre par heure", "kilomètres par heure"),
        "m/s": Noun("mètre par seconde", "mètres par seconde"),
        "km²": Noun("kilomètre carré", "kilomètres carrés"),
        "m²": Noun("mètre carré", "mètres carrés"),
        "cm²": Noun("centimètre carré", "centimètres carrés"),
        "m³": Noun("mètre cube", "mètres cubes"),
        "cm³": Noun("centimètre cube", "centimètres cubes"),
        "km": Noun("kilomètre", "kilomètres"),
        "m": Noun("mètre", "mètres"),
        "cm": Noun("centimètre", "centimètres"),
        "mm": Noun("millimètre", "millimètres"),
        "nm": Noun("nanomètre", "nanomètres"),
        "kg": Noun("kilogramme", "kilogrammes"),
        "g": Noun("gramme", "grammes"),
        "mg": Noun("milligramme", "milligrammes"),
        "t": Noun("tonne", "tonnes", "f"),
        "l": Noun("litre", "litres"),
        "L": Noun("litre", "litres"),
        "cl": Noun("centilitre", "centilitres"),
        "ml": Noun("millilitre", "millilitres"),
        "ha": Noun("hectare", "hectares"),
        "min": Noun("minute", "minutes", "f"),
        "s": Noun("seconde", "secondes", "f"),
        "ms": Noun("milliseconde", "millisecondes", "f"),
        "Hz": Noun("hertz", "hertz"),
        "kHz": Noun("kilohertz", "kilohertz"),
        "MHz": Noun("mégahertz", "mégahertz"),
        "GHz": Noun("gigahertz", "gigahertz"),
        "W": Noun("watt", "watts"),
        "kW": Noun("kilowatt", "kilowatts"),
        "MW": Noun("mégawatt", "mégawatts"),
        "kWh": Noun("kilowattheure", "kilowattheures"),
        "V": Noun("volt", "volts"),
        "Mo": Noun("mégaoctet", "mégaoctets"),
        "Go": Noun("gigaoctet", "gigaoctets"),
        "MB": Noun("mégaoctet", "mégaoctets"),
        "GB": Noun("gigaoctet", "gigaoctets"),
        "dB": Noun("décibel", "décibels"),
        "%": Noun("pour cent", "pour cent"),
        "°": Noun("degré", "degrés"),
        "°C": Noun("degré Celsius", "degrés Celsius"),
        "°F": Noun("degré Fahrenheit", "degrés Fahrenheit"),
    },
    powers={"²": "au carré", "³": "au cube"},
    denominators={
        2: ("demi", "demis"), 3: ("tiers", "tiers"), 4: ("quart", "quarts"), 5: ("cinquième", "cinquièmes"),
        6: ("sixième", "sixièmes"), 7: ("septième", "septièmes"), 8: ("huitième", "huitièmes"),
        9: ("neuvième", "neuvièmes"), 10: ("dixième", "dixièmes"),
    },
    time="{hour} heures {minute}",
    full_hour="{hour} heures",
    one_hour="une heure",
    time_tail=r"\s+heures?\b",
    hour_gender="f",
    hour_letter=True,
    money_joint=" et ",
    magnitudes={
        **dict.fromkeys(("million", "millions", "M"), ("million", "millions")),
        **dict.fromkeys(("milliard", "milliards", "Md", "Mds"), ("milliard", "milliards")),
        **dict.fromkeys(("billion", "billions"), ("billion", "billions")),
    },
    magnitude_joint="de ",
    ordinal_suffixes={
        **dict.fromkeys(("er", "ers"), "m"), **dict.fromkeys(("re", "res", "ère", "ères"), "f"),
        **dict.fromkeys(("e", "es", "ème", "èmes", "ième", "nd"), ""),
    },
    date="{day} {month} {year}",
    date_words=frozenset({"le", "du", "au"}),
    chapters=frozenset(words("chapitre partie tome volume livre acte scène section article phase annexe titre")),
    rulers=frozenset(
        words("louis henri charles philippe napoléon françois guillaume richard édouard edouard george georges jacques "
        "élisabeth elisabeth catherine pie paul benoît grégoire léon innocent jean alexandre nicolas pierre léopold "
        "albert baudouin frédéric")
    ),
    nouns={**_plurals(_MASCULINE, "m"), **_plurals(_FEMININE, "f")},
    endings={
        **dict.fromkeys(("tion", "tions", "sion", "sions", "ette", "ettes", "ure", "ures"), "f"),
        **dict.fromkeys(("ment", "ments", "age", "ages", "eur", "eurs", "eau", "eaux"), "m"),
    },
    particles=frozenset(
        words(
            "et ou de du des à au aux en sur pour par dans est sont a ont le la les que qui mais donc ne se y janvier "
        "février mars avril mai juin juillet août septembre octobre novembre décembre")
    ),
)  # fmt: skip
