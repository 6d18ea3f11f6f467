"""Portuguese, of Portugal unless said otherwise."""

from dataclasses import replace

from models.text.spoken_forms.language import Language, Money, Noun, words

_CENT = Noun("centavo", "centavos")
_EURO = Money(Noun("euro", "euros"), Noun("cêntimo", "cêntimos"))
_REAL = Money(Noun("real", "reais"), _CENT)
_DOLLAR = Money(Noun("dólar", "dólares"), _CENT)
_US_DOLLAR = Money(Noun("dólar americano", "dólares americanos"), _CENT)
_POUND = Money(Noun("libra", "libras", "f"), Noun("péni", "pence"))
_YEN = Money(Noun("iene", "ienes"))

PORTUGUESE = Language(
    code="pt",
    num2words="pt",
    point=",",
    point_word="vírgula",
    grouping=".'",
    minus="menos",
    plus="mais",
    dot="ponto",
    conjunction="e",
    until="a",
    number_sign="número",
    months=tuple(
        words("janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro")
    ),
    symbols={"&": "e", "+": "mais", "@": "arroba", "=": "igual a", "%": "por cento", "×": "vezes"},
    money={
        "R$": _REAL, "BRL": _REAL, "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO,
        "£": _POUND, "GBP": _POUND, "¥": _YEN, "JPY": _YEN,
    },
    units={
        "km/h": Noun("quilómetro por hora", "quilómetros por hora"),
        "m/s": Noun("metro por segundo", "metros por segundo"),
        "km²": Noun("quilómetro quadrado", "quilómetros quadrados"),
        "m²": Noun("metro quadrado", "metros quadrados"),
        "cm²": Noun("centímetro quadrado", "centímetros quadrados"),
        "m³": Noun("metro cúbico", "metros cúbicos"),
        "cm³": Noun("centímetro cúbico", "centímetros cúbicos"),
        "km": Noun("quilómetro", "quilómetros"),
        "m": Noun("metro", "metros"),
        "cm": Noun("centímetro", "centímetros"),
        "mm": Noun("milímetro", "milímetros"),
        "kg": Noun("quilograma", "quilogramas"),
        "g": Noun("grama", "gramas"),
        "mg": Noun("miligrama", "miligramas"),
        "t": Noun("tonelada", "toneladas", "f"),
        "l": Noun("litro", "litros"),
        "L": Noun("litro", "litros"),
        "ml": Noun("mililitro", "mililitros"),
        "min": Noun("minuto", "minutos"),
        "s": Noun("segundo", "segundos"),
        "ms": Noun("milissegundo", "milissegundos"),
        "Hz": Noun("hertz", "hertz"),
        "kHz": Noun("quilohertz", "quilohertz"),
        "MHz": Noun("megahertz", "megahertz"),
        "GHz": Noun("gigahertz", "gigahertz"),
        "W": Noun("watt", "watts"),
        "kW": Noun("quilowatt", "quilowatts"),
        "kWh": Noun("quilowatt-hora", "quilowatts-hora"),
        "V": Noun("volt", "volts"),
        "MB": Noun("megabyte", "megabytes"),
        "GB": Noun("gigabyte", "gigabytes"),
        "dB": Noun("decibel", "decibéis"),
        "%": Noun("por cento", "por cento", ""),
        "°": Noun("grau", "graus"),
        "°C": Noun("grau Celsius", "graus Celsius"),
        "°F": Noun("grau Fahrenheit", "graus Fahrenheit"),
    },
    powers={"²": "ao quadrado", "³": "ao cubo"},
    denominators={
        2: ("meio", "meios"), 3: ("terço", "terços"), 4: ("quarto", "quartos"), 5: ("quinto", "quintos"),
        6: ("sexto", "sextos"), 7: ("sétimo", "sétimos"), 8: ("oitavo", "oitavos"), 9: ("nono", "nonos"),
        10: ("décimo", "décimos"),
    },
    time="{hour} e {minute}",
    full_hour="{hour} em ponto",
    time_tail=r"\s+em ponto\b",
    hour_gender="f",
    hour_letter=True,
    money_joint=" e ",
    magnitudes={
        "mil": ("mil", "mil"),
        **dict.fromkeys(("milhão", "milhões", "mi", "M"), ("milhão", "milhões")),
        **dict.fromkeys(("bilhão", "bilhões", "bi"), ("bilhão", "bilhões")),
    },
    magnitude_joint="de ",
    ordinal_suffixes={"º": "m", ".º": "m", "o": "m", "ª": "f", ".ª": "f", "a": "f"},
    date="{day} de {month} de {year}",
    date_words=frozenset({"dia", "em", "desde", "até"}),
    chapters=frozenset(words("capítulo século parte tomo volume livro ato acto cena seção secção artigo fase título")),
    rulers=frozenset(
        words("pedro joão carlos filipe afonso manuel luís henrique isabel jorge paulo pio bento gregório leão "
        "inocêncio napoleão eduardo ricardo guilherme catarina alexandre nicolau maria sancho dinis fernando")
    ),
    nouns={
        **dict.fromkeys(
            words(
                "dia dias mapa mapas problema problemas programa programas sistema sistemas idioma idiomas tema temas "
            "planeta planetas poema poemas mês meses homem homens país países hotel hotéis lugar lugares dólar "
            "dólares grama gramas quilograma milhão milhões real reais mil jogador jogadores professor "
            "professores animal animais bar bares euros"), "m",
        ),
        **dict.fromkeys(
            words(
                "mulher mulheres vez vezes noite noites tarde tardes parte partes flor flores lei leis luz luzes foto "
            "fotos moto motos mão mãos classe classes cidade cidades frase frases base bases"), "f",
        ),
    },
    endings={
        "ções": "f", "ção": "f", "sões": "f", "são": "f", "dades": "f", "dade": "f", "gens": "f", "gem": "f",
        "as": "f", "a": "f", "os": "m", "o": "m",
    },
    particles=frozenset(
        words(
            "de do da e ou a ao à em no na com por para que é são era não se mais menos como sem até entre mas o os as "
        "foi há quando está estão dos das janeiro fevereiro março abril maio junho julho agosto setembro outubro "
        "novembro dezembro")
    ),
)  # fmt: skip

BRAZILIAN = replace(
    PORTUGUESE,
    num2words="pt_BR",
    units={
        sign: noun._replace(
            one=noun.one.replace("quilóm", "quilôm"), many=noun.many.replace("quilóm", "quilôm")
        )
        for sign, noun in PORTUGUESE.units.items()
    },
)
