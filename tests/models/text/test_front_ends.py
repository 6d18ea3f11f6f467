"""Front ends: ids in range, distinct texts stay distinct, a saved one is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from models.text.front_ends import text_front_end

VOCABULARY = {"[UNK]": 0, "one": 1, "two": 2, "three": 3}


@pytest.fixture
def tokenizer(tmp_path):
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]").save_pretrained(
        str(tmp_path / "tokenizer")
    )
    return tmp_path / "tokenizer"


@given(st.text(), st.text())
def test_bytes_tell_texts_apart(first, second):
    front_end = text_front_end({"kind": "bytes"})
    ids = front_end.encode(first)
    assert len(ids) == len(first.encode()) + 2
    assert all(0 <= one < front_end.vocab_size for one in ids)
    assert (ids == front_end.encode(second)) == (first == second)


def test_a_tokenizer_travels_with_its_directory(tokenizer, tmp_path):
    front_end = text_front_end({"kind": "huggingface", "source": str(tokenizer)})
    assert front_end.vocab_size == len(VOCABULARY)
    assert front_end.encode("one three nine") == [1, 3, 0]
    description = front_end.save(tmp_path / "system")
    tokenizer.rename(tmp_path / "moved")
    again = text_front_end(description, tmp_path / "system")
    assert again.encode("two one") == [2, 1]


def test_bytes_need_no_files(tmp_path):
    assert text_front_end({"kind": "bytes"}).save(tmp_path) == {"kind": "bytes"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "byte"}, "text front end kind 'byte' is unknown; known: bytes, huggingface"),
        ({}, "text front end kind None is unknown"),
        ({"kind": "bytes", "source": "x"}, "text front end bytes has no setting 'source'"),
        ({"kind": "huggingface"}, "needs source: a tokenizer directory or a hub id"),
    ],
)
def test_wrong_descriptions_are_refused(description, message):
    with pytest.raises(ValueError, match=message):
        text_front_end(description)
