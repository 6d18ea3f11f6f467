"""Front ends: what training saw of a sentence is what speaking makes of it, and a saved one is the same."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from models.checkpoints import Json
from models.text import espeak
from models.text.front_ends import located, text_front_end, training_front_end
from models.text.settings import contradiction, text_settings
from models.text.verbalize import EDITION

VOCABULARY = {"[UNK]": 0, "one": 1, "two": 2, "three": 3}
BYT5 = ByT5Tokenizer()
LEXICON = "- {word: GIF, language: en, ipa: dʒˈɪf}\n- {word: nguyen, language: en, say: win}\n"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(str(folder))
    return folder


@given(st.text(), st.text())
def test_bytes_tell_texts_apart(first: str, second: str) -> None:
    front_end = text_front_end({"kind": "bytes"})
    ids = front_end.encode(first)
    assert len(ids) == len(first.encode()) + 2
    assert all(0 <= one < front_end.vocab_size for one in ids)
    assert (ids == front_end.encode(second)) == (first == second)


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="<")))
def test_byt5_is_transformers_tokenizer(text: str) -> None:
    front_end = text_front_end({"kind": "byt5"})
    assert front_end.encode(text) == BYT5(text).input_ids
    assert front_end.vocab_size == len(BYT5)


def test_a_tokenizer_travels_with_its_directory(tokenizer: Path, tmp_path: Path) -> None:
    front_end = text_front_end({"kind": "huggingface", "source": str(tokenizer)})
    assert front_end.vocab_size == len(VOCABULARY)
    assert front_end.encode("one three nine") == [1, 3, 0]
    description = front_end.save(tmp_path / "system")
    assert description == {"kind": "huggingface", "source": "text"}
    (tmp_path / "system").rename(tmp_path / "moved")
    again = text_front_end(description, tmp_path / "moved")
    assert again.encode("two one") == [2, 1]


def test_a_tokenizer_that_brings_code_is_refused(tokenizer: Path, tmp_path: Path) -> None:
    """And nobody is asked on standard input."""
    (tmp_path / "config.json").write_text(
        json.dumps(
            {"model_type": "odd", "auto_map": {"AutoConfig": "odd.C", "AutoTokenizer": ["odd.T", None]}}
        )
    )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["odd.T", None]}})
    )
    (tmp_path / "odd.py").write_text("raise SystemExit('ran')\n")
    with pytest.raises((ValueError, OSError)):
        text_front_end({"kind": "huggingface", "source": str(tmp_path)})


@pytest.mark.parametrize("kind", ["bytes", "huggingface", "phonemes"])
@pytest.mark.parametrize("normalize", ["none", "transcript", "spoken"])
@pytest.mark.parametrize("lexicon", [False, True])
def test_a_saved_front_end_is_the_same(
    kind: str, normalize: str, lexicon: bool, tokenizer: Path, tmp_path: Path
) -> None:
    if kind == "phonemes" and normalize == "none":
        pytest.skip("refused, as a test below shows")
    (tmp_path / "words.yaml").write_text(LEXICON, encoding="utf-8")
    given: dict[str, Json] = {"kind": kind, "normalize": normalize}
    given |= {"source": str(tokenizer)} if kind == "huggingface" else {}
    given |= {"lexicon": str(tmp_path / "words.yaml")} if lexicon else {}
    front_end = training_front_end(given)
    (tmp_path / "export").mkdir()
    description = json.loads(json.dumps(front_end.save(tmp_path / "export")))
    (tmp_path / "words.yaml").unlink()
    (tmp_path / "export").rename(tmp_path / "system")
    again = text_front_end(description, tmp_path / "system")
    for text in ("one two 3", "Nguyen’s  GIF — nguyen\t5 %", "e\u0301"):
        assert again.encode(text, "en") == front_end.encode(text, "en")
    assert again.vocab_size == front_end.vocab_size
    assert again.save(tmp_path / "system") == description
    assert description.get("normalize", "none") == normalize
    assert ("lexicon_sha256" in description) == lexicon


def test_bytes_as_given_need_no_files_and_no_record(tmp_path: Path) -> None:
    assert text_front_end({"kind": "bytes"}).save(tmp_path) == {"kind": "bytes"}
    assert not list(tmp_path.iterdir())
    assert text_front_end({"kind": "bytes"}).encode("a  b") != text_front_end({"kind": "bytes"}).encode("a b")


def test_a_fit_normalizes_unless_it_says_otherwise() -> None:
    assert training_front_end({"kind": "bytes"}).save(Path()) == {"kind": "bytes", "normalize": "transcript"}
    assert training_front_end({"kind": "bytes", "normalize": "none"}).save(Path()) == {"kind": "bytes"}


def test_spoken_forms_and_phones_follow_the_language_of_the_request() -> None:
    spoken = text_front_end({"kind": "bytes", "normalize": "spoken", "language": "de"})
    assert spoken.encode("3") == spoken.encode("drei") == spoken.encode("3", "de")
    assert spoken.encode("3", "en") == spoken.encode("three", "en")
    phones = text_front_end({"kind": "phonemes", "language": "de"})
    assert phones.encode("Hund") == phones.encode(
        "anything", phones=["h", "ʊ", "n", "t"][:0] or list("hˈʊnt")
    )
    assert phones.encode("vin", "fr") != phones.encode("vin")


def test_given_phones_need_no_espeak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._probe.cache_clear()
    espeak.voice_of.cache_clear()
    try:
        front_end = training_front_end({"kind": "phonemes"})
        assert front_end.encode("", phones=["w", "ˈʌ", "n"]) == front_end.encode_stored(["w", "ˈ", "ʌ", "n"])
        assert "espeak_ng" not in front_end.save(tmp_path)
        with pytest.raises(ValueError, match="espeak-ng is not installed"):
            front_end.encode("one")
    finally:
        espeak._probe.cache_clear()


def test_numbers_without_num2words_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "num2words", None)
    front_end = text_front_end({"kind": "bytes", "normalize": "spoken"})
    assert front_end.encode("“one”")
    with pytest.raises(ValueError, match="the number 7 is written out by num2words, which is not installed"):
        front_end.encode("7")


def test_another_espeak_warns_once_and_works(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    description = training_front_end({"kind": "phonemes"}).save(tmp_path)
    assert description["espeak_ng"] == espeak.version()
    other = text_front_end(description | {"espeak_ng": "1.49"})
    with caplog.at_level(logging.WARNING):
        assert other.encode("one") == other.encode("one") == text_front_end(description).encode("one")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"espeak-ng here is {espeak.version()}; the model was trained on")
    assert other.save(tmp_path)["espeak_ng"] == "1.49"


def test_another_edition_of_the_spoken_forms_warns_once_and_works(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    now = training_front_end({"kind": "bytes", "normalize": "spoken"}).save(tmp_path)
    assert now["spoken_forms"] == EDITION
    unrecorded = {key: value for key, value in now.items() if key != "spoken_forms"}
    older = text_front_end(unrecorded)
    with caplog.at_level(logging.WARNING):
        assert text_front_end(now).encode("5 km") == older.encode("5 km") == older.encode("five kilometers")
    (record,) = caplog.records
    assert record.getMessage() == (
        f"numbers are said by edition {EDITION} of the spoken forms; the model was trained on edition 1, "
        "and may know some of them otherwise"
    )
    assert older.save(tmp_path)["spoken_forms"] == "1"
    assert text_front_end(older.save(tmp_path)).save(tmp_path) == older.save(tmp_path)


@pytest.mark.parametrize(("prepared", "edition"), [({"spoken_forms": "7"}, "7"), ({}, "1")])
def test_a_column_keeps_the_edition_that_made_it(
    prepared: dict[str, Json], edition: str, tmp_path: Path
) -> None:
    front_end = training_front_end({"kind": "bytes", "normalize": "spoken"}, {"normalize": True} | prepared)
    assert front_end.save(tmp_path)["spoken_forms"] == edition


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.yaml").write_text(LEXICON, encoding="utf-8")
    (tmp_path / "map.json").write_text('{"a": 0}')
    paths = {"lexicon": str(tmp_path / "words.yaml"), "symbols": str(tmp_path / "map.json")}
    description = training_front_end({"kind": "phonemes", **paths}).save(tmp_path)
    assert located(description, tmp_path)["symbols"] == str(tmp_path / "text" / "symbols.json")
    (tmp_path / "text" / "symbols.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match=r"symbols .*symbols\.json is another one \(sha256 \w{12}\)"):
        text_front_end(description, tmp_path)
    (tmp_path / "text" / "lexicon.json").write_text("[]")
    with pytest.raises(ValueError, match=r"lexicon .*lexicon\.json is another one"):
        text_front_end(description, tmp_path)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "byte"}, "text front end: kind is 'byte'; known: bytes, byt5, huggingface, phonemes"),
        ({}, "the text front end lacks 'kind'"),
        ({"kind": "bytes", "normalise": "none"}, "unknown key 'normalise' .*did you mean 'normalize'"),
        ({"kind": "bytes", "normalize": "all"}, "normalize is 'all'; known: none, transcript, spoken"),
        ({"kind": "bytes", "source": "x"}, "text front end bytes has no setting 'source'"),
        ({"kind": "bytes", "symbols": "ipa@2"}, "text front end bytes has no setting 'symbols'"),
        ({"kind": "huggingface"}, "needs source: a tokenizer directory or a hub id"),
        ({"kind": "phonemes", "normalize": "none"}, "normalize must be 'transcript' or 'spoken', not 'none'"),
        ({"kind": "phonemes", "symbols": "ipa@2"}, "the symbol table 'ipa@2' is unknown; known: ipa@1"),
        ({"kind": "phonemes", "language": ""}, "language is empty"),
        ({"kind": "phonemes", "language": False}, "language is False; it must be a text"),
    ],
)  # fmt: skip
def test_wrong_descriptions_are_refused(description: dict[str, Json], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text_front_end(description)


def test_letters_take_no_phones() -> None:
    with pytest.raises(ValueError, match="the text front end bytes reads no phones; give the text alone"):
        text_front_end({"kind": "bytes"}).encode("a", phones=["a"])


BOTH = {"normalize": True, "phonemes": True}


@pytest.mark.parametrize(
    ("front_end", "dataset", "message"),
    [
        ({"kind": "phonemes"}, None, None),
        ({"kind": "phonemes"}, BOTH, None),
        ({"kind": "phonemes"}, BOTH | {"language": "de"}, None),
        ({"kind": "phonemes"}, {"phonemes": True}, None),
        ({"kind": "phonemes"}, {"normalize": True}, "the dataset has no phonemes: prepare it with text.phonemes=true"),
        ({"kind": "phonemes", "normalize": "transcript"}, BOTH,
         "text.normalize is 'transcript', but the dataset's column phonemes was made with 'spoken'"),
        ({"kind": "phonemes", "language": "en"}, BOTH | {"language": "de"},
         "text.language is 'en', but the dataset's column phonemes was made with 'de'"),
        ({"kind": "phonemes"}, BOTH | {"lexicon": "0123456789abcdef"},
         "text.lexicon is 'none', but the dataset's column phonemes was made with '0123456789ab'"),
        ({"kind": "bytes", "normalize": "spoken", "language": "fr"}, {"normalize": True},
         "text.language is 'fr', but the dataset's column normalized_text was made with 'en'"),
        ({"kind": "bytes", "normalize": "spoken", "language": "fr"}, {}, None),
        ({"kind": "bytes", "normalize": "spoken"}, {"normalize": True}, None),
        ({"kind": "bytes", "language": "fr"}, BOTH, None),
        ({"kind": "bytes", "normalize": "none"}, BOTH | {"lexicon": "0123456789abcdef"}, None),
    ],
)  # fmt: skip
def test_a_front_end_that_contradicts_its_column_is_refused(
    front_end: dict[str, Json], dataset: dict[str, Json] | None, message: str | None
) -> None:
    found = contradiction(text_settings(front_end, dataset), "", dataset)
    assert found is None if message is None else (found or "").startswith(message)
    if message is not None:
        with pytest.raises(ValueError, match=r"^" + message.split(",")[0]):
            training_front_end(front_end, dataset)


@pytest.mark.parametrize(
    ("front_end", "dataset", "column"),
    [
        ({"kind": "bytes"}, BOTH, "text"),
        ({"kind": "bytes", "normalize": "none"}, BOTH, "text"),
        ({"kind": "bytes", "normalize": "spoken"}, BOTH, "normalized_text"),
        ({"kind": "bytes", "normalize": "spoken"}, {}, "text"),
        ({"kind": "bytes", "normalize": "spoken"}, None, "text"),
        ({"kind": "phonemes"}, BOTH, "phonemes"),
        ({"kind": "phonemes"}, None, "phonemes"),
    ],
)
def test_training_reads_the_column_that_holds_what_is_spoken(
    front_end: dict[str, Json], dataset: dict[str, Json] | None, column: str
) -> None:
    assert training_front_end(front_end, dataset).column == column
