"""The length rule: what each token, each word and the row itself adds, none of them negative."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.text.normalize import word_count
from trainers.objectives.lengths import length_rule


@given(
    st.lists(st.tuples(st.integers(1, 200), st.integers(1, 9)), min_size=3, max_size=20),
    st.integers(0, 20),
    st.integers(1, 20),
    st.integers(0, 50),
)
def test_rows_that_follow_a_rule_are_foretold(
    rows: list[tuple[int, int]], per_token: int, per_word: int, per_sentence: int
) -> None:
    tokens, texts = [size for size, _ in rows], ["word " * words for _, words in rows]
    frames = [per_token * size + per_word * words + per_sentence for size, words in rows]
    rule = length_rule(tokens, texts, frames)
    for (size, words), wanted in zip(rows, frames, strict=True):
        foretold = rule["frames_per_token"] * size + rule.get("frames_per_word", 0.0) * words
        assert foretold + rule.get("frames_per_sentence", 0.0) == pytest.approx(wanted, rel=1e-3)


def test_words_decide_before_the_sentence_does() -> None:
    """Pairs of words alone cannot tell what a single one has: half of the pair's part, not the whole."""
    rule = length_rule([9, 8, 10], ["two three", "one two", "four five"], [49, 48, 50])
    assert rule == pytest.approx({"frames_per_token": 1.0, "frames_per_word": 20.0})


def test_a_sentence_has_its_part_beside_its_words() -> None:
    texts = ["a", "a a", "a a a", "a a"]
    sizes = [10, 20, 30, 30]
    rule = length_rule(sizes, texts, [2 * size + 15 for size in sizes])
    assert rule == pytest.approx({"frames_per_token": 2.0, "frames_per_sentence": 15.0})


@pytest.mark.parametrize(
    ("tokens", "texts", "frames", "rule"),
    [
        ([4, 4, 4], ["a", "a", "a"], [10, 12, 20], {"frames_per_token": 3.5}),  # rows of one size
        ([4, 8], ["a a", "a a a a"], [10, 24], {"frames_per_token": 2.75}),  # a sentence of negative length
        ([3], ["a"], [9], {"frames_per_token": 3.0}),
        ([0, 0], ["", ""], [4, 4], {"frames_per_token": 4.0}),
        ([], [], [], {"frames_per_token": 0.0}),
    ],
)
def test_few_rows_have_the_mean_of_a_token(
    tokens: list[int], texts: list[str], frames: list[int], rule: dict[str, float]
) -> None:
    assert length_rule(tokens, texts, frames) == pytest.approx(rule)


def test_texts_that_are_longer_and_spoken_faster_have_their_words() -> None:
    rule = length_rule([4, 8], ["a", "a"], [12, 10])
    assert rule["frames_per_token"] == 0
    assert 10 < rule["frames_per_word"] < 12


def test_long_rows_do_not_decide_what_a_short_one_has() -> None:
    """Their share of the error is that of their relative length, not of their frames."""
    tokens = [10, 20, 30, 400]
    texts = ["a", "a a", "a a a", "a"]
    rule = length_rule(tokens, texts, [5 * size + 20 for size in tokens[:3]] + [1000])
    foretold = 10 * rule["frames_per_token"] + rule.get("frames_per_word", 0.0)
    assert foretold + rule.get("frames_per_sentence", 0.0) == pytest.approx(70, rel=0.1)


def test_a_space_in_a_script_without_spaces_adds_nothing() -> None:
    texts = ["我们今天去", "我们去", "今天我们都去那里", "去那里"]
    sizes = [len(text) * 2 + (text[0] == "我") for text in texts]
    rule = length_rule(sizes, texts, [10 * len(text) + 12 for text in texts])
    assert word_count("我们 今天 去") == word_count("我们今天去") == 5
    assert rule == pytest.approx(
        {"frames_per_token": 0.0, "frames_per_word": 10.0, "frames_per_sentence": 12.0}
    )
