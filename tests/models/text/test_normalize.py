"""Transcripts: composed, without control characters and odd spaces, and final after one pass."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.text.normalize import normalize_transcript, word_count


@given(st.text())
@example("e\u200b\u0301")
@example("a\u200c\u200c\u200db \u200c c\u200d")
def test_one_pass_is_enough(text: str) -> None:
    once = normalize_transcript(text)
    assert normalize_transcript(once) == once
    assert "  " not in once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" two\tspaces \u00a0 and\r\nlines\u2028", "two spaces and lines"),
        ("e\u0301te\u0301", "été"),
        ("soft\u00adhyphen\ufeff, bell\x07", "softhyphen, bell"),
        ("“quoted” — it’s", "“quoted” — it’s"),
        ("می\u200cخواهم", "می\u200cخواهم"),
        ("क्\u200dष", "क्\u200dष"),
        ("র\u200d্য", "র\u200d্য"),
        ("श्री\u200c राम \u200d", "श्री राम"),
        ("e\u200d\u0301 a\u200c\u200db", "é a\u200db"),
    ],
)
def test_known_texts(text: str, kept: str) -> None:
    assert normalize_transcript(text) == kept


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("one two", 2),
        ("  ", 0),
        ("我 去", 2),
        ("我，去。", 2),
        ("one - two!", 2),
        ("ok我们", 3),
        ("สวัสดี", 6),
        ("안녕 하세요", 2),
    ],
)
def test_words_are_counted_as_the_script_parts_them(text: str, words: int) -> None:
    assert word_count(text) == words
