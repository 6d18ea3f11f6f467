"""How languages write numbers and say symbols: the tables behind `verbalize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Unit = tuple[str, str]
"""What is said for exactly one, number included, and what follows any other number."""


@dataclass(frozen=True)
class Money:
    """A currency: its unit, and the hundredth of it if people name it."""

    unit: Unit
    hundredth: Unit | None = None


@dataclass(frozen=True)
class SpokenForms:
    """A language's rules. What a language leaves empty stays in the text as it is written."""

    point: str
    """Between a number and its decimals, as written."""
    point_word: str
    grouping: str
    """Characters that group thousands."""
    minus: str
    percent: Unit
    degrees: Unit
    celsius: Unit
    fahrenheit: Unit
    symbols: Mapping[str, str] = field(default_factory=dict)
    money: Mapping[str, Money] = field(default_factory=dict)
    money_joint: str = " "
    """Between units and hundredths."""
    scales: str = ""
    """Pattern of words such as `million` between a number and its currency."""
    scale_joint: str = ""
    ordinal_suffixes: str = ""
    """Pattern of what makes digits an ordinal, as the `th` of `4th`."""
    time: str = ""
    """Of `{hour}` and `{minute}`."""
    full_hour: str = ""
    time_tail: str = ""
    """Pattern of words after a written time that `time` says already."""
    separator: str = " "
    """Between words."""
    percent_first: bool = False


ENGLISH = SpokenForms(
    point=".",
    point_word="point",
    grouping=",",
    minus="minus",
    percent=("one percent", "percent"),
    degrees=("one degree", "degrees"),
    celsius=("one degree Celsius", "degrees Celsius"),
    fahrenheit=("one degree Fahrenheit", "degrees Fahrenheit"),
    symbols={"&": "and", "+": "plus", "@": "at", "=": "equals", "%": "percent"},
    money={
        "$": Money(("one dollar", "dollars"), ("one cent", "cents")),
        "€": Money(("one euro", "euros"), ("one cent", "cents")),
        "£": Money(("one pound", "pounds"), ("one penny", "pence")),
        "¥": Money(("one yen", "yen")),
    },
    money_joint=" and ",
    scales="thousand|million|billion|trillion",
    ordinal_suffixes="st|nd|rd|th",
    time="{hour} {minute}",
    full_hour="{hour} o'clock",
    time_tail=r"\s+o['’]clock",
)

GERMAN = SpokenForms(
    point=",",
    point_word="Komma",
    grouping=".'",
    minus="minus",
    percent=("ein Prozent", "Prozent"),
    degrees=("ein Grad", "Grad"),
    celsius=("ein Grad Celsius", "Grad Celsius"),
    fahrenheit=("ein Grad Fahrenheit", "Grad Fahrenheit"),
    symbols={"&": "und", "+": "plus", "@": "at", "=": "gleich", "%": "Prozent"},
    money={
        "$": Money(("ein Dollar", "Dollar"), ("ein Cent", "Cent")),
        "€": Money(("ein Euro", "Euro"), ("ein Cent", "Cent")),
        "£": Money(("ein Pfund", "Pfund"), ("ein Penny", "Pence")),
        "¥": Money(("ein Yen", "Yen")),
    },
    money_joint=" und ",
    scales="Tausend|Millionen?|Milliarden?|Billionen?",
    time="{hour} Uhr {minute}",
    full_hour="{hour} Uhr",
    time_tail=r"\s+Uhr\b",
)

FRENCH = SpokenForms(
    point=",",
    point_word="virgule",
    grouping=". ",
    minus="moins",
    percent=("un pour cent", "pour cent"),
    degrees=("un degré", "degrés"),
    celsius=("un degré Celsius", "degrés Celsius"),
    fahrenheit=("un degré Fahrenheit", "degrés Fahrenheit"),
    symbols={"&": "et", "+": "plus", "@": "arobase", "=": "égale", "%": "pour cent"},
    money={
        "$": Money(("un dollar", "dollars"), ("un cent", "cents")),
        "€": Money(("un euro", "euros"), ("un centime", "centimes")),
        "£": Money(("une livre", "livres"), ("un penny", "pence")),
        "¥": Money(("un yen", "yens")),
    },
    money_joint=" et ",
    scales="millions?|milliards?|billions?",
    scale_joint="de ",
    ordinal_suffixes="ers?|res?|ères?|es?|èmes?|ième",
    time="{hour} heures {minute}",
    full_hour="{hour} heures",
    time_tail=r"\s+heures?\b",
)

SPANISH = SpokenForms(
    point=",",
    point_word="coma",
    grouping=".'",
    minus="menos",
    percent=("uno por ciento", "por ciento"),
    degrees=("un grado", "grados"),
    celsius=("un grado Celsius", "grados Celsius"),
    fahrenheit=("un grado Fahrenheit", "grados Fahrenheit"),
    symbols={"&": "y", "+": "más", "@": "arroba", "=": "igual a", "%": "por ciento"},
    money={
        "$": Money(("un dólar", "dólares"), ("un centavo", "centavos")),
        "€": Money(("un euro", "euros"), ("un céntimo", "céntimos")),
        "£": Money(("una libra", "libras"), ("un penique", "peniques")),
        "¥": Money(("un yen", "yenes")),
    },
    money_joint=" con ",
    scales="millón|millones|billón|billones",
    scale_joint="de ",
    time="{hour} y {minute}",
    full_hour="{hour} en punto",
    time_tail=r"\s+en punto\b",
)

ITALIAN = SpokenForms(
    point=",",
    point_word="virgola",
    grouping=".'",
    minus="meno",
    percent=("uno per cento", "per cento"),
    degrees=("un grado", "gradi"),
    celsius=("un grado Celsius", "gradi Celsius"),
    fahrenheit=("un grado Fahrenheit", "gradi Fahrenheit"),
    symbols={"&": "e", "+": "più", "@": "chiocciola", "=": "uguale a", "%": "per cento"},
    money={
        "$": Money(("un dollaro", "dollari"), ("un centesimo", "centesimi")),
        "€": Money(("un euro", "euro"), ("un centesimo", "centesimi")),
        "£": Money(("una sterlina", "sterline"), ("un penny", "pence")),
        "¥": Money(("uno yen", "yen")),
    },
    money_joint=" e ",
    scales="milione|milioni|miliardo|miliardi",
    scale_joint="di ",
    time="{hour} e {minute}",
    full_hour="{hour} in punto",
    time_tail=r"\s+in punto\b",
)

PORTUGUESE = SpokenForms(
    point=",",
    point_word="vírgula",
    grouping=".'",
    minus="menos",
    percent=("um por cento", "por cento"),
    degrees=("um grau", "graus"),
    celsius=("um grau Celsius", "graus Celsius"),
    fahrenheit=("um grau Fahrenheit", "graus Fahrenheit"),
    symbols={"&": "e", "+": "mais", "@": "arroba", "=": "igual a", "%": "por cento"},
    money={
        "R$": Money(("um real", "reais"), ("um centavo", "centavos")),
        "$": Money(("um dólar", "dólares"), ("um centavo", "centavos")),
        "€": Money(("um euro", "euros"), ("um cêntimo", "cêntimos")),
        "£": Money(("uma libra", "libras"), ("um péni", "pence")),
        "¥": Money(("um iene", "ienes")),
    },
    money_joint=" e ",
    scales="milhão|milhões|bilhão|bilhões",
    scale_joint="de ",
    time="{hour} e {minute}",
    full_hour="{hour} em ponto",
    time_tail=r"\s+em ponto\b",
)

DUTCH = SpokenForms(
    point=",",
    point_word="komma",
    grouping=".'",
    minus="min",
    percent=("één procent", "procent"),
    degrees=("één graad", "graden"),
    celsius=("één graad Celsius", "graden Celsius"),
    fahrenheit=("één graad Fahrenheit", "graden Fahrenheit"),
    symbols={"&": "en", "+": "plus", "@": "apenstaartje", "=": "is gelijk aan", "%": "procent"},
    money={
        "$": Money(("één dollar", "dollar"), ("één cent", "cent")),
        "€": Money(("één euro", "euro"), ("één cent", "cent")),
        "£": Money(("één pond", "pond"), ("één penny", "pence")),
        "¥": Money(("één yen", "yen")),
    },
    money_joint=" en ",
    scales="duizend|miljoen|miljard",
    ordinal_suffixes="e|de|ste",
    time="{hour} uur {minute}",
    full_hour="{hour} uur",
    time_tail=r"\s+uur\b",
)

JAPANESE = SpokenForms(
    point=".",
    point_word="点",
    grouping=",",
    minus="マイナス",
    percent=("一パーセント", "パーセント"),
    degrees=("一度", "度"),
    celsius=("一度", "度"),
    fahrenheit=("一度", "度"),
    symbols={"&": "アンド", "+": "プラス", "%": "パーセント"},
    money={"$": Money(("一ドル", "ドル")), "€": Money(("一ユーロ", "ユーロ")), "¥": Money(("一円", "円"))},
    time="{hour}時{minute}分",
    full_hour="{hour}時",
    separator="",
)

CHINESE = SpokenForms(
    point=".",
    point_word="点",
    grouping=",",
    minus="负",
    percent=("百分之一", "百分之"),
    degrees=("一度", "度"),
    celsius=("一摄氏度", "摄氏度"),
    fahrenheit=("一华氏度", "华氏度"),
    symbols={"&": "和", "+": "加"},
    money={"$": Money(("一美元", "美元")), "€": Money(("一欧元", "欧元")), "¥": Money(("一元", "元"))},
    time="{hour}点{minute}分",
    full_hour="{hour}点",
    separator="",
    percent_first=True,
)

FORMS = {
    "de": GERMAN,
    "en": ENGLISH,
    "es": SPANISH,
    "fr": FRENCH,
    "it": ITALIAN,
    "ja": JAPANESE,
    "nl": DUTCH,
    "pt": PORTUGUESE,
    "zh": CHINESE,
}
"""By ISO 639-1 code. A language that is not here has no rules."""
