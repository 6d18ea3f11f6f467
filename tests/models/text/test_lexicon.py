"""Lexica: whole words of any case in their language, the same entries in both formats, refusals by entry."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.espeak import EspeakError
from models.text.lexicon import Lexicon, Pronunciation, read_lexicon
from models.text.treatment import Treatment

YAML = """
# names
- {word: Nguyen, language: en, say: win}
- {word: New York, language: en, say: Noo Yawk}
- {word: York, language: en, say: yoik}
- {word: no, language: en, say: noh}
- {word: GIF, language: en, ipa: dʒˈɪf}
- {word: SQL, language: en, ipa: sˈiːkwəl, say: sequel}
- {word: lieutenant, language: en, voice: en-gb, say: leftenant}
- {word: tomato, language: en-GB, say: tomahto}
- {word: tomato, language: en, say: tomayto}
- {word: l’hôtel, language: fr, say: lotel}
- {word: 今日, language: ja, say: きょう}
- {word: 今, language: ja, say: いま}
"""


@pytest.fixture(scope="module")
def lexicon(tmp_path_factory: pytest.TempPathFactory) -> Lexicon:
    path = tmp_path_factory.mktemp("lexicon") / "words.yaml"
    path.write_text(YAML, encoding="utf-8")
    return read_lexicon(path)


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("en", "Nguyen, NGUYEN and nguyen-like", "win, win and win-like"),
        ("en", "Nguyens, xNguyen, Nguyen's, Nguyen’s", "Nguyens, xNguyen, Nguyen's, Nguyen’s"),
        ("en", "'Nguyen' said “Nguyen”", "'win' said “win”"),
        ("en", "in New York, York", "in Noo Yawk, yoik"),
        ("en", "no GIF of SQL", "noh GIF of sequel"),
        ("de", "Nguyen", "Nguyen"),
        ("en-US", "lieutenant tomato", "lieutenant tomayto"),
        ("en_GB", "lieutenant tomato", "leftenant tomahto"),
        ("en-AU", "lieutenant tomato", "leftenant tomayto"),
        ("fr", "de L'Hôtel", "de lotel"),
        ("ja", "今日は今です", "きょうはいまです"),
        ("en", "", ""),
    ],
)
def test_words_are_respelled(lexicon: Lexicon, language: str, text: str, said: str) -> None:
    assert lexicon.respell(text, language) == said


@given(st.text("Nguyen York'’ 今日\u0301é", max_size=25), st.sampled_from(["en", "fr", "ja"]))
def test_pieces_give_the_text_back(lexicon: Lexicon, text: str, language: str) -> None:
    pieces = lexicon.find(text, language)
    assert "".join(piece for piece, _ in pieces) == text
    for piece, entry in pieces:
        assert entry is None or piece.lower().replace("’", "'") == entry.word.lower()


def test_ipa_is_said_as_given_among_phones_of_espeak(lexicon: Lexicon) -> None:
    treatment = Treatment("spoken", "en", lexicon)
    assert "".join(treatment.phones("One GIF, 3 sql files")) == "wˌʌn dʒˈɪf, θɹˈiː sˈiːkwəl fˈaɪlz"
    assert treatment.text("One GIF, 3 sql files") == "One GIF, three sequel files"
    assert treatment.phones("GIF") == ["d", "ʒˈ", "ɪ", "f"]


def test_both_formats_say_the_same(lexicon: Lexicon, tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    path.write_text(lexicon.to_json(), encoding="utf-8")
    again = read_lexicon(path)
    assert again.entries == lexicon.entries
    assert again.sha256 == lexicon.sha256 != ""
    assert pickle.loads(pickle.dumps(lexicon)).respell("Nguyen", "en") == "win"
    assert Lexicon().sha256 == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("word: a", "it must hold a list of entries"),
        ("- a", "entry 1 is 'a'; it must map word, language, voice, ipa, say to texts"),
        ("- {word: a, language: [en], say: b}", "entry 1 is "),
        ("- {word: a, language: en, say: b}\n- {word: a, langage: en}", "entry 2 has the key 'langage'; known: word"),
        ("- {word: a, language: en}", "entry 1: word 'a' has neither ipa nor say"),
        ("- {word: a, say: b}", "entry 1: word 'a' has no language"),
        ("- {word: .net, language: en, say: b}", "entry 1: word is '.net'; it must begin with a letter or a digit"),
        ("- {word: a, language: en, ipa: 你}", "entry 1: word 'a': ipa '你' holds '你', which is no IPA"),
        ("- {word: a, language: en, ipa: 'a,b'}", "holds ',', which is no IPA"),
        ("- {word: a, language: en, say: b}\n- {word: A, language: en, say: c}", "word 'A' stands twice in"),
        ("- {word: a", "no YAML"),
    ],
)  # fmt: skip
def test_refusals_name_the_entry(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"^lexicon .*words\.yaml: .*" + message.replace(".", r"\.")):
        read_lexicon(path)


def test_a_voice_in_a_language_that_espeak_lacks_is_refused() -> None:
    lexicon = Lexicon([Pronunciation("a", "xx", voice="en-gb", say="b")])
    with pytest.raises(EspeakError, match="no voice for language 'xx'"):
        lexicon.respell("a", "xx")
