"""Numbers and symbols written out as said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.normalize import has_word, normalize_transcript
from models.text.verbalize import LANGUAGES, verbalize


@pytest.mark.parametrize(
    ("language", "written", "said"),
    [
        ("en", "I paid $5.50 for 3 apples & 1,234 pears.", "I paid five dollars and fifty cents for three apples "
         "and one thousand two hundred and thirty-four pears."),
        ("en", "$0.50, $1, -$3, $1.5 million, £1.20", "fifty cents, one dollar, minus three dollars, one point five "
         "million dollars, one pound and twenty pence"),
        ("en", "in 1999, 2005 and 2024, on the 21st", "in nineteen ninety-nine, two thousand and five and twenty "
         "twenty-four, on the twenty-first"),
        ("en", "the 1980s and 90s", "the nineteen eighties and nineties"),
        ("en", "10:30 am, 9:05, 10:00, 9:00 pm", "ten thirty am, nine oh five, ten o'clock, nine pm"),
        ("en", "5% of 3.14, or -7; 1%", "five percent of three point one four, or minus seven; one percent"),
        ("en", "20°C, 1°, -5 °F", "twenty degrees Celsius, one degree, minus five degrees Fahrenheit"),
        ("en", "mp3 B2B, AT&T, 007", "mp three B two B, AT and T, zero zero seven"),
        ("en-GB", "１２ ｘ", "twelve x"),
        ("de", "1,50 € für 1.234,5 km", "ein Euro und fünfzig Cent für eintausendzweihundertvierunddreißig Komma "
         "fünf Kilometer"),
        ("de", "um 10:30 Uhr, 1999", "um zehn Uhr dreißig, neunzehnhundertneunundneunzig"),
        ("fr", "le 1er, 3,5 %, 1\u202f234 €", "le premier, trois virgule cinq pour cent, mille deux cent "
         "trente-quatre euros"),
        ("fr", "5 millions €", "cinq millions d'euros"),
        ("es", "3,5 % de 1.000 €", "tres coma cinco por ciento de mil euros"),
        ("it", "3,14 e 1 €", "tre virgola uno quattro e un euro"),
        ("pt", "R$ 5,50", "cinco reais e cinquenta centavos"),
        ("nl", "€ 2,50", "twee euro en vijftig cent"),
        ("ja", "３月21日、10:30、5%", "三月二十一日、十時三十分、五パーセント"),
        ("zh", "第12名，5%，¥10005", "第十二名,百分之五,一万零五元"),
        ("pl", "„12” – 5 %", '"12" — 5 %'),
    ],
)  # fmt: skip
def test_numbers_and_symbols_are_written_out(language: str, written: str, said: str) -> None:
    assert verbalize(written, language) == said


@given(
    st.text("0123456789.,:-$€%°C &+@abs年時\u202f", max_size=30), st.sampled_from([*sorted(LANGUAGES), "pl"])
)
def test_nothing_is_left_to_do(text: str, language: str) -> None:
    once = verbalize(text, language)
    assert verbalize(once, language) == once


@given(
    st.text() | st.text("0123456789./,:-+()#½²IVXLvN°ºª€$%٣ Maikmh", max_size=40),
    st.sampled_from(sorted(LANGUAGES)),
)
def test_no_text_is_too_odd(text: str, language: str) -> None:
    said = verbalize(text, language)
    assert normalize_transcript(said) == said
    assert has_word(said) == has_word(normalize_transcript(text)) or any(sign in text for sign in "&+@=%×÷°")


@pytest.mark.parametrize(
    "piece", ["1,111,", "1.", "1", "1/", "€", "1:", "0 11 ", "+1 ", "XIVX ", "v1.", "1.111.", "²"]
)
@pytest.mark.parametrize("language", ["en", "de", "fr", "zh"])
def test_a_long_row_of_anything_is_said_piece_by_piece(piece: str, language: str) -> None:
    """Time grows with the length: this takes minutes if a pattern looks ahead without bounds."""
    assert has_word(verbalize(piece * 4000, language)) == has_word(piece)


@given(st.integers(0, 10**15), st.sampled_from(sorted(LANGUAGES)))
def test_numbers_of_any_size_have_words_of_their_own(number: int, language: str) -> None:
    said = {verbalize(str(one), language) for one in (number, number + 1, number + 10)}
    assert len(said) == 3
