"""Phonemes: known words, marks and spaces that survive, texts that do not touch each other."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.text.espeak import EspeakError, voice_of
from models.text.phonemes import phonemize


def test_phones_are_characters_with_their_marks() -> None:
    (phones,) = phonemize(["Hello, world!"], "en")
    assert phones == ["h", "ə", "lˈ", "o", "ʊ", ",", " ", "wˈ", "ɜː", "l", "d", "!"]


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("en", "Wait... what?! (no); I—you", "wˈeɪt... wˌʌt?! (nˈoʊ); ˈaɪ—juː"),
        ("en", "  “quoted”\n\ntext ", "“kwˈoʊɾᵻd” tˈɛkst"),
        ("en", "U.S.A. 3.14", "jˌuːˌɛsˈeɪ. θɹˈiː pɔɪnt wˈʌn fˈɔːɹ"),
        ("en_GB", "hello", "həlˈəʊ"),
        ("fr", "le vin, ça va ?", "lə vˈɛ̃, sa vˈa ?"),
        ("zh", "你好。天", "ni2χˈɑu2。thˈiɛ5n"),
        ("ru", "мир", "mʲˈir"),
        ("en", "...", "..."),
        ("en", "", ""),
        ("en", " \x00 ", ""),
    ],
)
def test_known_texts(language: str, text: str, said: str) -> None:
    (phones,) = phonemize([text], language)
    assert "".join(phones) == said


def test_diacritics_tones_and_length_stay_with_their_phone() -> None:
    assert phonemize(["vin"], "fr") == [["vˈ", "ɛ̃"]]
    assert phonemize(["мир"], "ru") == [["mʲˈ", "i", "r"]]
    assert phonemize(["天"], "zh") == [["t", "hˈ", "i", "ɛ5", "n"]]


texts = st.lists(st.text("abc ,.!?-'3\u00e9\u4f60", max_size=20), max_size=6)


@settings(max_examples=50)
@given(texts)
def test_texts_do_not_touch_each_other(batch: list[str]) -> None:
    together = phonemize(batch, "en")
    assert together == [phonemize([text], "en")[0] for text in batch]
    assert phonemize(batch[::-1], "en") == together[::-1]
    for phones in together:
        assert phones[:1] != [" "]
        assert phones[-1:] != [" "]
        assert all(pair != (" ", " ") for pair in itertools.pairwise(phones))


def test_languages_have_many_names_and_unknown_ones_are_refused() -> None:
    for language in ("en", "EN-us", "pt_BR", "zh-CN", "no", "de-AT", "yue", "he", "iw"):
        voice_of(language)
    for language in ("xx", "", "english", "tl"):
        with pytest.raises(EspeakError, match=f"espeak-ng has no voice for language '{language}'"):
            phonemize([], language)


def test_kanji_are_refused_not_spelled_out() -> None:
    assert phonemize(["こんにちは"], "ja")[0]
    with pytest.raises(EspeakError, match="espeak-ng cannot read '今' in language 'ja'"):
        phonemize(["今日は"], "ja")
