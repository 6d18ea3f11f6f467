"""Codec source strings: every form reads back, every other one is refused; levels are part of the identity."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models.codecs.interface import Codec, identity_of
from models.codecs.source import CodecSource, first_levels

WORDS = st.text(st.sampled_from("abz019-_."), min_size=1, max_size=8)
NAMES = WORDS | st.builds("/{}@{}:{}/{}".format, WORDS, WORDS, WORDS, WORDS)


@given(st.builds(CodecSource, NAMES, st.just("") | WORDS, st.none() | st.integers(1, 99)))
def test_what_is_written_is_read(source: CodecSource) -> None:
    assert CodecSource.parse(str(source)) == source


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mill-16khz", CodecSource("mill-16khz")),
        ("mill-16khz@2", CodecSource("mill-16khz", "2")),
        ("encodec-24khz:8", CodecSource("encodec-24khz", "", 8)),
        ("facebook/encodec_24khz@main:16", CodecSource("facebook/encodec_24khz", "main", 16)),
        ("/data/me@home:1/codec", CodecSource("/data/me@home:1/codec")),
    ],
)
def test_examples(text: str, expected: CodecSource) -> None:
    assert CodecSource.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "codec '': must be NAME"),
        ("@2", "codec '@2': must be NAME"),
        ("mill@", "codec 'mill@': must be NAME"),
        ("mill:", "codec 'mill:': levels are ''; must be a whole number from 1 on"),
        ("mill:0", "levels are '0'"),
        ("mill:-3", "levels are '-3'"),
        ("mill:eight", "levels are 'eight'"),
        ("mill:8@2", "levels are '8@2'"),
    ],
)
def test_other_forms_are_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodecSource.parse(text)


def test_first_levels_are_a_codec_of_their_own(codec: Codec, sweep: Callable[[int, int], Tensor]) -> None:
    levels = max(1, codec.n_codebooks - 1)
    reduced = first_levels(codec, levels)
    waves = torch.stack([sweep(5000, 0), sweep(5000, 1)]), torch.tensor([5000, 3000])
    codes, fewer = codec.encode(*waves), reduced.encode(*waves)
    assert torch.equal(fewer.codes_BQT, codes.codes_BQT[:, :levels])
    assert torch.equal(reduced.decode(fewer).wave_BT, codec.decode(fewer).wave_BT)
    assert (identity_of(reduced) == identity_of(codec)) == (levels == codec.n_codebooks)
    with pytest.raises(ValueError, match=f"has {levels} levels; {levels + 1} were requested"):
        first_levels(reduced, levels + 1)
