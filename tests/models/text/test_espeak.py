"""espeak-ng: voices by language, samples that repeat, and one line where it is missing."""

from __future__ import annotations

import sys

import pytest

from models.text import espeak
from models.text.espeak import Espeak, EspeakError, voice_of
from models.text.phonemes import phonemize


@pytest.mark.parametrize(
    ("language", "voice"),
    [("en", "en-us"), ("EN_gb", "en-gb"), ("en-AU", "en-gb"), ("zh-CN", "cmn"), ("zh-HK", "yue"), ("no", "nb"),
     ("fr", "fr-fr"), ("pt_BR", "pt-br"), ("de-AT", "de"), ("jp", "ja")],
)  # fmt: skip
def test_a_language_has_one_voice(language: str, voice: str) -> None:
    assert voice_of(language) == voice
    assert voice_of(voice) == voice


def test_fresh_copies_say_the_same_at_any_time_of_day() -> None:
    said = []
    for _ in range(2):
        engine = Espeak()
        engine.set_voice("en-us+f2")  # a voice with jitter
        said.append([engine.say(text) for text in ("seven", "three nine")])
        engine.close()
    assert said[0] == said[1]
    assert [place for place, _ in said[0][1].words] == [0, 6]


def test_threads_share_an_engine() -> None:
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"{number} bottles on the wall" for number in range(40)]
    alone = phonemize(texts, "en")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: phonemize([text], "en")[0], texts)) == alone


def test_a_machine_without_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._probe.cache_clear()
    voice_of.cache_clear()
    try:
        with pytest.raises(
            EspeakError, match="espeak-ng is not installed: add the package espeakng-loader, or give"
        ):
            phonemize(["one"], "en")
    finally:
        espeak._probe.cache_clear()


def test_an_unknown_voice_is_named() -> None:
    with pytest.raises(EspeakError, match="espeak-ng has no voice 'xx-nowhere'"):
        Espeak().set_voice("xx-nowhere")
