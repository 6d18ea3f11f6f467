"""Spanish."""

from models.text.spoken_forms.language import Language, Money, Noun, words

_CENT = Noun("centavo", "centavos")
_EURO = Money(Noun("euro", "euros"), Noun("céntimo", "céntimos"))
_DOLLAR = Money(Noun("dólar", "dólares"), _CENT)
_US_DOLLAR = Money(Noun("dólar estadounidense", "dólares estadounidenses"), _CENT)
_POUND = Money(Noun("libra", "libras", "f"), Noun("penique", "peniques"))
_YEN = Money(Noun("yen", "yenes"))

SPANISH = Language(
    code="es",
    num2words="es",
    point=",",
    point_word="coma",
    grouping=".'",
    minus="menos",
    plus="más",
    dot="punto",
    conjunction="y",
    until="a",
    number_sign="número",
    months=tuple(
        words("enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre")
    ),
    symbols={"&": "y", "+": "más", "@": "arroba", "=": "igual a", "%": "por ciento", "×": "por"},
    money={
        "$": _DOLLAR, "US$": _US_DOLLAR, "USD": _US_DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": _YEN, "JPY": _YEN,
    },
    units={
        "km/h": Noun("kilómetro por hora", "kilómetros por hora"),
        "m/s": Noun("metro por segundo", "metros por segundo"),
        "km²": Noun("kilómetro cuadrado", "kilómetros cuadrados"),
        "m²": Noun("metro cuadrado", "metros cuadrados"),
        "cm²": Noun("centímetro cuadrado", "centímetros cuadrados"),
        "m³": Noun("metro cúbico", "metros cúbicos"),
        "cm³": Noun("centímetro cúbico", "centímetros cúbicos"),
        "km": Noun("kilómetro", "kilómetros"),
        "m": Noun("metro", "metros"),
        "cm": Noun("centímetro", "centímetros"),
        "mm": Noun("milímetro", "milímetros"),
        "kg": Noun("kilogramo", "kilogramos"),
        "g": Noun("gramo", "gramos"),
        "mg": Noun("miligramo", "miligramos"),
        "t": Noun("tonelada", "toneladas", "f"),
        "l": Noun("litro", "litros"),
        "L": Noun("litro", "litros"),
        "ml": Noun("mililitro", "mililitros"),
        "ha": Noun("hectárea", "hectáreas", "f"),
        "h": Noun("hora", "horas", "f"),
        "min": Noun("minuto", "minutos"),
        "s": Noun("segundo", "segundos"),
        "ms": Noun("milisegundo", "milisegundos"),
        "Hz": Noun("hercio", "hercios"),
        "kHz": Noun("kilohercio", "kilohercios"),
        "MHz": Noun("megahercio", "megahercios"),
        "GHz": Noun("gigahercio", "gigahercios"),
        "W": Noun("vatio", "vatios"),
        "kW": Noun("kilovatio", "kilovatios"),
        "kWh": Noun("kilovatio hora", "kilovatios hora"),
        "V": Noun("voltio", "voltios"),
        "MB": Noun("megabyte", "megabytes"),
        "GB": Noun("gigabyte", "gigabytes"),
        "dB": Noun("decibelio", "decibelios"),
        "%": Noun("por ciento", "por ciento", ""),
        "°": Noun("grado", "grados"),
        "°C": Noun("grado Celsius", "grados Celsius"),
        "°F": Noun("grado Fahrenheit", "grados Fahrenheit"),
    },
    powers={"²": "al cuadrado", "³": "al cubo"},
    denominators={
        2: ("medio", "medios"), 3: ("tercio", "tercios"), 4: ("cuarto", "cuartos"), 5: ("quinto", "quintos"),
        6: ("sexto", "sextos"), 7: ("séptimo", "séptimos"), 8: ("octavo", "octavos"), 9: ("noveno", "novenos"),
        10: ("décimo", "décimos"),
    },
    time="{hour} y {minute}",
    full_hour="{hour} en punto",
    time_tail=r"\s+en punto\b",
    hour_gender="f",
    money_joint=" con ",
    magnitudes={
        "mil": ("mil", "mil"),
        **dict.fromkeys(("millón", "millones", "M"), ("millón", "millones")),
        **dict.fromkeys(("billón", "billones"), ("billón", "billones")),
    },
    magnitude_joint="de ",
    ordinal_suffixes={
        **dict.fromkeys(("º", ".º", "er", ".er", "ro", "do", "to", "mo", "vo", "no", "o", ".o"), "m"),
        **dict.fromkeys(("ª", ".ª", "ra", "da", "ta", "ma", "va", "na", "a", ".a"), "f"),
    },
    date="{day} de {month} de {year}",
    date_words=frozenset({"el", "del", "al"}),
    chapters=frozenset(
        words("capítulo siglo parte tomo volumen libro acto escena sección artículo fase título anexo mundial")
    ),
    rulers=frozenset(
        words("carlos felipe fernando alfonso juan pablo isabel enrique luis jorge pedro pío benedicto gregorio león "
        "inocencio napoleón eduardo ricardo guillermo catalina alejandro nicolás")
    ),
    nouns={
        **dict.fromkeys(
            words(
                "día días mapa mapas problema problemas programa programas sistema sistemas idioma idiomas tema temas "
            "planeta planetas poema poemas clima drama dramas mes meses hombre hombres año años país países hotel "
            "hoteles coche coches lugar lugares dólar dólares millón millones billón billones bar bares papel "
            "papeles color colores profesor profesores trabajador trabajadores jugador jugadores autor autores "
            "animal animales árbol árboles mil"), "m",
        ),
        **dict.fromkeys(
            words("mujer mujeres vez veces noche noches tarde tardes clase clases calle calles mano manos parte partes "
            "flor flores ley leyes llave llaves nave naves foto fotos moto motos leche red redes luz luces imagen "
            "imágenes torre torres frase frases base bases"), "f",
        ),
    },
    endings={
        "ciones": "f", "ción": "f", "siones": "f", "sión": "f", "dades": "f", "dad": "f", "tud": "f", "tudes": "f",
        "as": "f", "a": "f", "os": "m", "o": "m",
    },
    particles=frozenset(
        words(
            "de del y e o u a al en con por para que es son era eran no se más menos como sin sobre hasta desde entre "
        "pero la el los las le lo su fue ha han cuando está están enero febrero marzo abril mayo junio julio "
        "agosto septiembre octubre noviembre diciembre")
    ),
)  # fmt: skip
