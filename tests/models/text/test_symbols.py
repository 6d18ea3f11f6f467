"""Symbol tables: complete for espeak-ng, fixed for ever, and one line for a phone that is not there."""

from __future__ import annotations

import hashlib
import json
import struct
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.text.espeak import Espeak
from models.text.phonemes import MARKS, Ipa, phonemize_parts
from models.text.symbols import BEGIN, END, read_symbols, symbol_table, write_symbols
from models.text.verbalize import LANGUAGES

IPA = symbol_table("ipa@1")


def test_a_published_version_stays_what_it_is() -> None:
    text = json.dumps([IPA.vocab_size, list(IPA.ids.items())])
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "6dbb5817b614d97f36aa2c3d008dea64e14a3da07332ca18b6bc5ec271d0480d"
    )
    assert list(IPA.ids.values()) == list(range(len(IPA.ids)))
    assert len(IPA.ids) < IPA.vocab_size
    assert all(unicodedata.is_normalized("NFD", symbol) for symbol in IPA.ids)
    assert set(MARKS) <= IPA.ids.keys()


def phonemes_of(table: str, data: Path) -> list[str]:
    """espeak-ng's own names of the phonemes of a language, from its compiled tables, inherited ones included."""
    raw, at = (data / "phontab").read_bytes(), 4
    names, inherited, found = [], {}, {}
    for _ in range(raw[0]):
        count, parent = raw[at], raw[at + 1]
        name = raw[at + 4 : at + 36].split(b"\0")[0].decode()
        names.append(name)
        inherited[name] = parent
        rows = struct.iter_unpack("<4s12x", raw[at + 36 : at + 36 + 16 * count])
        found[name] = [mnemonic.split(b"\0")[0].decode("latin1") for (mnemonic,) in rows]
        at += 36 + 16 * count
    phonemes: list[str] = []
    while table:
        phonemes += found[table]
        table = names[inherited[table] - 1] if inherited[table] else ""
    return phonemes


def everything_said(language: str) -> Iterator[str]:
    """Each phoneme of a language alone, stressed, long and among others, in IPA."""
    import espeakng_loader

    data = Path(espeakng_loader.get_data_path())
    engine = Espeak()
    engine.set_language(language)
    # Phonemes in double brackets are taken as such after a text that was spoken with this flag.
    engine._library.espeak_Synth(b"a", 2, 0, 0, 0, 0x101, None, None)
    for name in phonemes_of(language, data):
        for around in ("{}", "'{}", "{}'a", "a{}", "{}:", "t{}t", "a{}a"):
            yield engine.ipa(f"[[{around.format(name)}]]")
    engine.close()


@pytest.mark.parametrize("language", sorted({one.code for one in LANGUAGES.values()}))
def test_it_spells_whatever_espeak_says_in_the_covered_languages(language: str) -> None:
    said = set(everything_said({"en": "en-us", "zh": "cmn"}.get(language, language)))
    assert len(said) > 100
    for ipa in said:
        ids = IPA.encode(phonemize_parts([Ipa(ipa)], language))
        assert ids[0] == IPA.ids[BEGIN]
        assert ids[-1] == IPA.ids[END]


def test_phones_are_spelled_in_whatever_form_they_are_written() -> None:
    assert IPA.encode(["lˈ", "õ", " ", "ɛ̃"]) == [
        1,
        *(IPA.ids[one] for one in ("l", "ˈ", "o", "\u0303", " ", "ɛ", "\u0303")),
        2,
    ]
    assert IPA.encode([unicodedata.normalize("NFC", "õ")]) == IPA.encode(["õ"])


def test_a_map_knows_whole_phones(tmp_path: Path) -> None:
    path = tmp_path / "symbols.json"
    path.write_text(json.dumps({BEGIN: 1, END: 2, "?": 7, "p": 7, "lˈ": 9}), encoding="utf-8")
    table = symbol_table("symbols.json", tmp_path)
    assert table.vocab_size == 10
    assert table.encode(["p", "lˈ", "?"]) == [1, 7, 9, 7, 2]
    write_symbols(table, tmp_path / "again.json")
    assert read_symbols(tmp_path / "again.json").ids == table.ids
    with pytest.raises(ValueError, match=r"the symbol table .*symbols\.json has no phone 'l'"):
        table.encode(["l"])


def test_a_map_without_begin_and_end_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 0}')
    assert read_symbols(tmp_path / "a.json").encode(["a", "a"]) == [0, 0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ipa@2", "the symbol table 'ipa@2' is unknown; known: ipa@1, or a JSON file of phone -> id"),
        ("list.json", "list.json must hold a JSON object of phone -> id"),
        ("word.json", "word.json is no JSON file"),
        ("text.json", "text.json: the id of 'a' is '1'; it must be a whole number from 0"),
        ("minus.json", "minus.json: the id of 'a' is -1"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, name: str, message: str) -> None:
    contents = {"list": "[]", "word": "a", "text": '{"a": "1"}', "minus": '{"a": -1}'}
    for file, content in contents.items():
        (tmp_path / f"{file}.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        symbol_table(name, tmp_path)


def test_an_unknown_phone_is_named() -> None:
    with pytest.raises(ValueError, match="the symbol table ipa@1 has no phone '你'"):
        IPA.encode(["n", "你"])
