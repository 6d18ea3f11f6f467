"""The two dynamic programs of alignment against brute force and known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.speech.alignment import dtw, viterbi
from pipelines.speech.alignment.dtw import Distances, band, band_along, warp
from pipelines.speech.alignment.utterances import Gap, Lengths, divide
from pipelines.speech.alignment.viterbi import ANY, Transcript, best_states


def least_cost(costs: np.ndarray, weight: float) -> float:
    """Textbook DTW, cell by cell."""
    rows, columns = costs.shape
    totals = np.full((rows, columns), np.inf)
    for i, j in itertools.product(range(rows), range(columns)):
        entries = [0.0] if i == j == 0 else []
        entries += [totals[i - 1, j]] if i else []
        entries += [totals[i, j - 1]] if j else []
        entries += [totals[i - 1, j - 1] + (weight - 1) * costs[i, j]] if i and j else []
        totals[i, j] = min(entries) + costs[i, j]
    return float(totals[-1, -1])


def cost_of(path: np.ndarray, costs: np.ndarray, weight: float) -> float:
    """The cost of a path; raises if it is not one."""
    total, at = 0.0, None
    for row, (first, last) in enumerate(path):
        for column in range(first, last + 1):
            if at is not None:
                step = (row - at[0], column - at[1])
                assert step in {(1, 0), (0, 1), (1, 1)}
                total += costs[row, column] * (weight if step == (1, 1) else 1.0)
            else:
                assert (row, column) == (0, 0)
                total += costs[row, column]
            at = (row, column)
    assert at == (costs.shape[0] - 1, costs.shape[1] - 1)
    return total


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000), st.sampled_from([1.0, 2.0]))
def test_warp_finds_the_least_cost(rows: int, columns: int, seed: int, weight: float) -> None:
    draw = np.random.default_rng(seed)
    heard, spoken = (draw.normal(size=(n, 3)).astype(np.float32) for n in (rows, columns))
    for distances in (Distances.plain(heard, spoken), Distances.centred(heard, spoken)):
        costs = np.stack([distances.row(row, 0, columns) for row in range(rows)])
        path = warp(distances, band(rows, columns, columns), columns, weight)
        assert cost_of(path, costs, weight) == pytest.approx(least_cost(costs, weight), abs=1e-4)


def test_warp_is_the_same_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    spoken = draw.normal(size=(150, 4)).astype(np.float32)
    heard = np.repeat(spoken, draw.integers(1, 4, len(spoken)), axis=0)
    heard += draw.normal(scale=0.2, size=heard.shape).astype(np.float32)
    distances = Distances.plain(heard, spoken)
    lows = band(len(heard), len(spoken), 60)
    whole = warp(distances, lows, 60, 1.0)
    monkeypatch.setattr(dtw, "_STEP_BYTES", 60 * 7)
    assert np.array_equal(warp(distances, lows, 60, 1.0), whole)


def test_warp_recovers_a_known_stretching() -> None:
    draw = np.random.default_rng(1)
    spoken = draw.normal(size=(80, 8)).astype(np.float32)
    origin = np.repeat(np.arange(80), draw.integers(1, 4, 80))
    path = warp(Distances.plain(spoken[origin], spoken), band(len(origin), 80, 80), 80, 1.0)
    assert np.array_equal(path, np.stack([origin, origin], axis=1))
    lows, width = band_along(path[::5] // 5, 5, len(origin), 80, 10)
    narrow = warp(Distances.plain(spoken[origin], spoken), lows, width, 1.0)
    assert width < 80
    assert np.array_equal(narrow, path)


def emitted(states: np.ndarray, tokens: np.ndarray, size: int, sure: float) -> np.ndarray:
    """Log-probabilities (T, V) of a model that hears just these states; column 0 is the blank."""
    heard = np.where(states % 2 == 1, np.append(tokens, 0)[states // 2], 0)
    probabilities = np.full((len(states), size), (1 - sure) / (size - 1))
    probabilities[np.arange(len(states)), heard] = sure
    return np.log(probabilities)


@st.composite
def spoken_tokens(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Tokens, and states that say them: tokens 1-3 frames, blanks where needed and elsewhere now and then."""
    tokens = np.array(draw(st.lists(st.integers(1, 5), min_size=1, max_size=30)))
    states: list[int] = []
    for index, token in enumerate(tokens):
        repeated = index > 0 and tokens[index - 1] == token
        states += [2 * index] * draw(st.integers(1 if repeated else 0, 2))
        states += [2 * index + 1] * draw(st.integers(1, 3))
    return tokens, np.array(states + [2 * len(tokens)] * draw(st.integers(0, 2)))


@settings(max_examples=80, deadline=None)
@given(spoken_tokens(), st.sampled_from([4, 1500]))
def test_states_are_those_that_were_heard(spoken: tuple[np.ndarray, np.ndarray], block: int) -> None:
    tokens, states = spoken
    heard = emitted(states, tokens, 6, 0.9)
    closed = Transcript(tokens, np.zeros(len(tokens) + 1, bool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(viterbi, "_BLOCK", block)
        found = best_states(heard, heard.max(axis=1), closed, 0)
    assert found is not None
    assert np.array_equal(found, states)


def test_a_narrow_band_follows_a_long_transcript(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(3)
    tokens = draw.integers(1, 30, 400)
    states = np.concatenate([[2 * i] * 2 + [2 * i + 1] * draw.integers(1, 5) for i in range(400)])
    heard = emitted(states, tokens, 31, 0.5)
    monkeypatch.setattr(viterbi, "_BLOCK", 50)
    found = best_states(heard, heard.max(axis=1), Transcript(tokens, np.zeros(401, bool)), 0, width=300)
    assert found is not None
    assert np.mean(found == states) > 0.98


def test_any_covers_an_unknown_word_and_open_places_foreign_speech() -> None:
    said = np.array([1, 2, 9, 8, 9, 3, 4, 7, 7, 8, 6, 9, 7, 8, 5, 1])
    frames = np.repeat(said, 2)
    heard = np.full((len(frames), 10), np.log(0.01))
    heard[np.arange(len(frames)), frames] = np.log(0.9)
    tokens = np.array([1, 2, ANY, 3, 4, 5, 1])
    opened = np.zeros(8, bool)
    opened[5] = True
    found = best_states(heard, heard.max(axis=1), Transcript(tokens, opened), 0)
    assert found is not None
    expected = np.repeat([1, 3, 5, 5, 5, 7, 9, *[10] * 7, 11, 13], 2)
    assert np.array_equal(found, expected)


def test_more_tokens_than_frames_do_not_fit() -> None:
    heard = np.log(np.full((3, 4), 0.25))
    four = Transcript(np.array([1, 2, 3, 1]), np.zeros(5, bool))
    assert best_states(heard, heard.max(axis=1), four, 0) is None


LENGTHS = Lengths(min_s=3.0, max_s=30.0, target_s=10.0, pad_s=0.1)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_divisions_hold_every_word_within_bounds(data: st.DataObject) -> None:
    spoken = data.draw(st.lists(st.floats(0.1, 4.0), min_size=1, max_size=60))
    times = np.cumsum([0.0, *spoken])
    gaps = [Gap(time, time + 0.05, data.draw(st.sampled_from([0.0, 1.0, 5.0])), False) for time in times]
    found = divide(gaps, LENGTHS)
    assert [one.first for one in found[1:]] == [one.stop for one in found[:-1]]
    assert (found[0].first, found[-1].stop) == (0, len(spoken))
    if times[-1] >= 10.0:  # with words up to 4 s, a division within 3 to 30 s exists from 3 s on
        assert all(3.0 <= one.end_s - one.start_s <= 30.0 for one in found)


def test_a_forced_gap_is_never_inside_and_sentence_ends_are_preferred() -> None:
    gaps = [Gap(float(at), float(at), 0.0 if at in (12, 19) else 3.0, forced=at == 24) for at in range(31)]
    assert [(one.first, one.stop) for one in divide(gaps, LENGTHS)] == [(0, 12), (12, 24), (24, 30)]


def test_what_cannot_be_divided_stays_whole() -> None:
    (one,) = divide([Gap(0.0, 0.0, 0.0, False), Gap(45.0, 45.0, 0.0, False)], LENGTHS)
    assert (one.start_s, one.end_s) == (0.0, 45.0)
