"""Transcripts: composed, without control characters and odd spaces, and final after one pass."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from models.text.normalize import normalize_transcript


@given(st.text())
@example("e\u200b\u0301")
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
    ],
)
def test_known_texts(text: str, kept: str) -> None:
    assert normalize_transcript(text) == kept
