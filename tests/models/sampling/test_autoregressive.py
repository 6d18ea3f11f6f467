"""The autoregressive loop with networks whose right output is obvious."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sampling.autoregressive import Limits, LoopGuard, Sampler, generate
from models.sampling.beam import Beams, BeamSearch
from models.sampling.draws import RowDraws
from models.sampling.token_sampling import TokenSampling, choose, filtered

V = 7
STOP = V - 1
GREEDY = TokenSampling(temperature=0)
ROWS = st.lists(st.integers(0, 5), min_size=1, max_size=4)


class History:
    """The state of a fake network: all tokens of each row so far."""

    def __init__(self, starts):
        self.rows = [[start] for start in starts]

    def reorder(self, rows_B):
        self.rows = [list(self.rows[row]) for row in rows_B.tolist()]


class Network:
    """Logits as a function of a row's tokens."""

    def __init__(self, logits_of):
        self.logits_of = logits_of

    def logits(self, state):
        return torch.stack([self.logits_of(row) for row in state.rows])

    def step(self, tokens_R, state):
        for row, token in zip(state.rows, tokens_R.tolist(), strict=True):
            row.append(token)
        return self.logits(state)

    def run(self, starts, search):
        state = History(starts)
        found = generate(self.logits(state), self.step, state, search)
        return [(one.tokens_N.tolist(), one.finish_reason) for one in found], found


def spike(token, height=50.0):
    return torch.nn.functional.one_hot(torch.tensor(token), V) * height


def counting(row):
    """Counts up from the start, then stops."""
    return spike(min(row[-1] + 1, STOP))


def random_network(seed):
    """Logits that depend on the two latest tokens."""
    table = torch.randn(V, V, V, generator=torch.Generator().manual_seed(seed)) * 2
    return Network(lambda row: table[row[-2] if len(row) > 1 else 0, row[-1]])


def search_of(kind, maximum, seeds):
    draws = RowDraws(seeds, "cpu")
    limits = Limits(STOP, maximum)
    if kind == "beam":
        return BeamSearch(Beams(3), limits)
    if kind == "drawn beam":
        return BeamSearch(Beams(2), limits, TokenSampling(1.3), draws)
    sampling = TokenSampling(
        0.9, top_k=5, top_p=0.95, min_p=0.01, repetition_penalty=1.3, repetition_window=4, aware_window=4
    )
    return Sampler(sampling, limits, draws)


@given(ROWS, st.sampled_from(["greedy", "drawn", "beam"]))
@settings(deadline=None, max_examples=30)
def test_a_certain_network_is_believed(starts, kind):
    limits = Limits(STOP, [9] * len(starts))
    draws = RowDraws(range(len(starts)), "cpu")
    searches = {
        "greedy": lambda: Sampler(GREEDY, limits, draws),
        "drawn": lambda: Sampler(TokenSampling(), limits, draws),
        "beam": lambda: BeamSearch(Beams(2), limits),
    }
    found, rows = Network(counting).run(starts, searches[kind]())
    assert found == [(list(range(start + 1, STOP)), "stop") for start in starts]
    if kind != "beam":  # which goes on until nothing can beat what it found
        assert {one.evaluations for one in rows} == {max(STOP - start for start in starts)}


def test_rows_end_at_their_own_maximum():
    found, _ = Network(counting).run(
        [0, 0, 3], Sampler(GREEDY, Limits(STOP, [2, 9, 1]), RowDraws([0] * 3, "cpu"))
    )
    assert found == [([1, 2], "length"), ([1, 2, 3, 4, 5], "stop"), ([4], "length")]


def test_the_stop_token_waits_for_the_minimum():
    network = Network(lambda row: spike(STOP) + spike(2, 10.0))
    limits = Limits(STOP, [9, 9], minimum=[0, 3])
    found, _ = network.run([0, 0], Sampler(GREEDY, limits, RowDraws([0, 0], "cpu")))
    assert found == [([], "stop"), ([2, 2, 2], "stop")]


@given(st.integers(1, 4), st.integers(0, 6), st.integers(4, 12))
@settings(deadline=None, max_examples=30)
def test_a_row_that_repeats_itself_is_ended_and_cut(period, lead, tokens):
    """`lead` tokens that do not repeat, then a pattern for ever."""

    def logits(row):
        at = len(row) - 1
        return spike(5 - at if at < lead else (at - lead) % period)

    limits = Limits(STOP, [60, 3], guard=LoopGuard(tokens, max_period=4))
    found, rows = Network(logits).run([0, 0], Sampler(GREEDY, limits, RowDraws([0, 0], "cpu")))
    sequence, reason = found[0]
    assert reason == "loop"
    assert found[1][1] == "length"
    assert rows[0].evaluations < 60
    # What is left holds the pattern once; the lead may look like the beginning of it.
    expected = [5 - at if at < lead else (at - lead) % period for at in range(lead + period)]
    assert sequence == expected[: len(sequence)]
    assert lead <= len(sequence)


def test_without_repetition_no_row_is_called_a_loop():
    numbers = torch.randint(0, STOP, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    network = Network(lambda row: spike(numbers[len(row) - 1]))
    limits = Limits(STOP, [200], guard=LoopGuard(12, max_period=6))
    found, _ = network.run([0], Sampler(GREEDY, limits, RowDraws([0], "cpu")))
    assert found == [(numbers, "length")]


@given(ROWS, st.sampled_from(["drawn", "beam", "drawn beam"]), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_row_does_not_depend_on_its_batch(starts, kind, seed):
    network, maximum = random_network(seed), [3 + 4 * (row % 3) for row in range(len(starts))]
    seeds = list(range(seed, seed + len(starts)))
    together, _ = network.run(starts, search_of(kind, maximum, seeds))
    for row, start in enumerate(starts):
        alone, _ = network.run([start], search_of(kind, maximum[row : row + 1], seeds[row : row + 1]))
        assert alone[0] == together[row]


def test_a_finished_row_draws_nothing():
    network, draws = random_network(3), RowDraws([5, 6], "cpu")
    limits = Limits(STOP, [2, 40], minimum=[0, 40])
    found, _ = network.run([0, 1], Sampler(TokenSampling(), limits, draws))
    assert [len(tokens) for tokens, _ in found] == [2, 40]
    alone = RowDraws([5], "cpu")
    network.run([0], Sampler(TokenSampling(), Limits(STOP, [2]), alone))
    assert torch.equal(draws.generators[0].get_state(), alone.generators[0].get_state())


@pytest.mark.parametrize("period", [1, 2, 3])
def test_a_loop_ends_with_the_token_that_makes_it_one(period):
    """`period` tokens that repeat nothing, then as many as the guard wants."""
    network = Network(lambda row: spike((len(row) - 1) % period))
    limits = Limits(STOP, [60], guard=LoopGuard(4, max_period=4))
    found, rows = network.run([0], Sampler(GREEDY, limits, RowDraws([0], "cpu")))
    assert found == [(list(range(period)), "loop")]
    assert rows[0].evaluations == period + 4


@given(st.integers(0, 200), st.integers(1, 4), st.sampled_from([0.0, 1.0, 2.0]))
@settings(deadline=None, max_examples=25)
def test_a_wide_beam_finds_the_best_sequence(seed, most, length_penalty):
    table = random_network(seed).logits_of

    def score(sequence):
        total = sum(float(table([0, *sequence[:at]]).log_softmax(-1)[t]) for at, t in enumerate(sequence))
        return total / len(sequence) ** length_penalty

    codes = range(STOP)
    ended = [[*x, STOP] for n in range(most) for x in itertools.product(codes, repeat=n)]
    whole = [list(x) for x in itertools.product(codes, repeat=most)]
    best = max(ended + whole, key=score)
    wide = BeamSearch(Beams(V**most, length_penalty), Limits(STOP, [most]))
    found, _ = Network(table).run([0], wide)
    assert found == [([t for t in best if t != STOP], "stop" if best[-1] == STOP else "length")]


def test_a_beam_that_draws_draws_without_replacement():
    """Two beams of two equally likely tokens hold both of them."""
    network = Network(lambda row: torch.tensor([0.0, 0.0, *[-60.0] * (V - 2)]))
    for seed in range(10):
        search = BeamSearch(Beams(1), Limits(STOP, [1]), TokenSampling(), RowDraws([seed], "cpu"))
        scores, index = search._candidates(network.logits(History([0]))[None])
        assert sorted(index[0].tolist()) == [0, 1]
        torch.testing.assert_close(scores, torch.full((1, 2), -math.log(2)))


def test_a_beam_that_draws_goes_on_with_the_best_of_what_it_drew():
    """One beam draws two candidates: of two possible tokens both, whatever the seed."""
    network = Network(lambda row: torch.tensor([0.2, 0.8, *[0.0] * (V - 2)]).log())
    for seed in range(10):
        search = BeamSearch(Beams(1), Limits(STOP, [3]), TokenSampling(), RowDraws([seed], "cpu"))
        assert network.run([0], search)[0] == [([1, 1, 1], "length")]


def test_an_end_counts_among_the_best_candidates_only():
    """[1] ends as the best of two beams; [2], the third best candidate, does not, so the search goes on to a better."""
    spread = {0: 0.22, 1: 0.21, 2: 0.2, 3: 0.19, 4: 0.18}
    likely = {(): {1: 0.6, 2: 0.4}, (1,): {STOP: 0.6, 3: 0.4}, (2,): {STOP: 0.55, 4: 0.45}}
    likely |= {(1, 3): spread, (2, 4): spread}

    def logits(row):
        then = {STOP if len(row) == 7 else 5: 1.0}
        found = likely.get(tuple(row[1:]), then)
        return torch.tensor([found.get(token, 0.0) for token in range(V)]).log().clamp(min=-60)

    found, _ = Network(logits).run([0], BeamSearch(Beams(2), Limits(STOP, [9])))
    assert found == [([1, 3, 0, 5, 5, 5], "stop")]


def drawn_shares(logits, sampling, count=20000, recent=None):
    draws = RowDraws([1], "cpu")
    tokens = choose(logits.expand(1, count, len(logits)), sampling, [count], draws, recent)
    return torch.bincount(tokens[0], minlength=len(logits)) / count


def test_tokens_are_drawn_as_often_as_their_probability_says():
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(
        drawn_shares(probabilities.log(), TokenSampling()), probabilities, rtol=0, atol=0.02
    )
    sharper = probabilities**2 / (probabilities**2).sum()
    torch.testing.assert_close(
        drawn_shares(probabilities.log(), TokenSampling(0.5)), sharper, rtol=0, atol=0.02
    )


def test_each_position_has_a_token_of_its_own():
    logits = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])
    assert choose(logits, TokenSampling(), [2], RowDraws([0], "cpu")).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (TokenSampling(top_k=2), [0, 1]),
        (TokenSampling(top_k=9), [0, 1, 2, 3]),
        (TokenSampling(top_p=0.5), [0]),
        (TokenSampling(top_p=0.51), [0, 1]),
        (TokenSampling(top_p=0.0), [0]),
        (TokenSampling(min_p=0.4), [0, 1, 2]),
        (TokenSampling(min_p=0.5), [0, 1]),
        (TokenSampling(top_k=3, min_p=0.5), [0, 1]),
    ],
)
def test_filters_leave_the_likely_tokens(sampling, left):
    logits = torch.tensor([0.5, 0.26, 0.21, 0.03]).log()[torch.tensor([3, 1, 0, 2])]
    places = [2, 1, 3, 0]
    kept = torch.isfinite(filtered(logits, sampling)).nonzero()[:, 0].tolist()
    assert kept == sorted(places[rank] for rank in left)


def test_repeated_tokens_are_penalised_by_their_sign():
    logits, recent = torch.tensor([[[4.0, -1.0, 3.0, 0.0]]]), torch.tensor([[-1, 0, 1]])
    greedy = TokenSampling(0, repetition_penalty=2.0)
    assert choose(logits, greedy, [1], RowDraws([0], "cpu"), recent).tolist() == [[2]]
    window = TokenSampling(0, repetition_penalty=2.0, repetition_window=1)
    assert choose(logits, window, [1], RowDraws([0], "cpu"), recent).tolist() == [[0]]


def test_small_logits_have_a_sign_too():
    logits, recent = torch.tensor([[[0.9, 0.5, -0.5]]]), torch.tensor([[0]])
    greedy = TokenSampling(0, repetition_penalty=2.0)
    assert choose(logits, greedy, [1], RowDraws([0], "cpu"), recent).tolist() == [[1]]


def test_prefixes_count_as_repeated():
    network = Network(lambda row: torch.tensor([0.0, 3.0, 2.0, 0.0, 0.0, 0.0, -9.0]))
    sampling = TokenSampling(0, repetition_penalty=2.0)
    draws = RowDraws([0, 0], "cpu")
    search = Sampler(sampling, Limits(STOP, [1, 1]), draws, prefixes=[[], [1]])
    assert network.run([0, 0], search)[0] == [([1], "length"), ([2], "length")]


def test_a_token_that_fills_the_window_is_drawn_again():
    """The filter leaves one token; once it fills more than half of the window all tokens can come."""
    logits = torch.tensor([[[2.0, 0.0, 0.0]]])
    sampling = TokenSampling(top_k=1, aware_window=4, aware_threshold=0.5)
    once, often = torch.tensor([[-1, 1, 0, 0]]), torch.tensor([[1, 0, 0, 0]])
    draws = RowDraws([0], "cpu")
    assert {int(choose(logits, sampling, [1], draws, once)) for _ in range(50)} == {0}
    assert {int(choose(logits, sampling, [1], draws, often)) for _ in range(50)} == {0, 1, 2}


@pytest.mark.parametrize("temperature", [0.0, 1.0, 0.5])
def test_the_second_draw_is_from_the_whole_distribution_at_the_temperature(temperature):
    """At temperature 0, which has none, from the network's own."""
    logits = torch.tensor([0.6, 0.3, 0.1]).log()
    sampling = TokenSampling(temperature, top_k=1, aware_window=2, aware_threshold=0.5)
    rows = 4000
    tokens = choose(
        logits.expand(rows, 1, 3),
        sampling,
        [1] * rows,
        RowDraws(range(rows), "cpu"),
        torch.zeros(rows, 2).long(),
    )
    shares = torch.bincount(tokens[:, 0], minlength=3) / rows
    expected = (logits / (temperature or 1)).softmax(-1)
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.03)


def test_only_rows_that_repeat_draw_again():
    logits, recent = torch.tensor([[[50.0, 0.0, 0.0]]] * 2), torch.tensor([[1, 1], [0, 0]])
    sampling = TokenSampling(0, aware_window=2, aware_threshold=0.5)
    draws, untouched = RowDraws([1, 2], "cpu"), RowDraws([1, 2], "cpu")
    choose(logits, sampling, [1, 1], draws, recent)
    moved = [
        not torch.equal(one.get_state(), other.get_state())
        for one, other in zip(draws.generators, untouched.generators, strict=True)
    ]
    assert moved == [False, True]


def test_half_of_the_window_is_not_more_than_half():
    logits = torch.tensor([[[50.0, 0.0]]])
    sampling = TokenSampling(0, aware_window=2, aware_threshold=0.5)
    draws, untouched = RowDraws([1], "cpu"), RowDraws([1], "cpu")
    # What came before the window does not count.
    choose(logits, sampling, [1], draws, torch.tensor([[0, 0, 1, 0]]))
    assert torch.equal(draws.generators[0].get_state(), untouched.generators[0].get_state())


@pytest.mark.parametrize(
    ("sampling", "window"),
    [
        (TokenSampling(), 0),
        (TokenSampling(repetition_window=5), 0),
        (TokenSampling(repetition_penalty=1.5), None),
        (TokenSampling(repetition_penalty=1.5, aware_window=9), None),
        (TokenSampling(repetition_penalty=0.5, repetition_window=5), 5),
        (TokenSampling(repetition_penalty=1.5, repetition_window=5, aware_window=9), 9),
        (TokenSampling(repetition_window=9, aware_window=5), 5),
    ],
)
def test_as_many_earlier_tokens_are_kept_as_are_needed(sampling, window):
    assert sampling.window == window


def test_ties_stay_within_the_filters():
    logits = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert torch.isfinite(filtered(logits, TokenSampling(top_k=2))).tolist() == [True, True, True, False]
    assert torch.isfinite(filtered(logits, TokenSampling(min_p=1.0))).tolist() == [True, True, True, False]
    colder = filtered(torch.tensor([2.0, 1.0, 0.0]), TokenSampling(0.5, min_p=0.1))
    assert colder.tolist() == [4.0, 2.0, -torch.inf]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenSampling(top_k=-1), "top_k is -1; it must not be negative"),
        (lambda: TokenSampling(repetition_window=-1), "repetition_window is -1; it must not be negative"),
        (lambda: TokenSampling(aware_window=-1), "aware_window is -1; it must not be negative"),
        (lambda: TokenSampling(min_p=-0.5), "min_p is -0.5; it must be between 0 and 1"),
        (lambda: TokenSampling(aware_threshold=2.0), "aware_threshold is 2.0; it must be between 0 and 1"),
        (lambda: TokenSampling(temperature=-1), "temperature is -1; it must not be negative"),
        (lambda: TokenSampling(top_p=1.5), "top_p is 1.5; it must be between 0 and 1"),
        (lambda: TokenSampling(repetition_penalty=0), "repetition_penalty is 0; it must be above 0"),
        (lambda: Limits(STOP, [0]), "the maximum of row 0 is 0; it must be at least 1"),
        (lambda: Limits(STOP, [4, 2], [1, 3]), "the maximum of row 1 is 2; it must be at least 3"),
        (lambda: Limits(STOP, [4, 2], [1]), "1 minimums for 2 rows; give one per row or none"),
        (lambda: LoopGuard(3, 4), "max_period is 4 with tokens 3; it must be between 1 and tokens"),
        (lambda: Beams(0), "n_beams is 0; it must be at least 1"),
        (lambda: BeamSearch(Beams(), Limits(STOP, [4]), TokenSampling()), "needs sampling and draws"),
        (lambda: BeamSearch(Beams(), Limits(STOP, [4], guard=LoopGuard())), "has no minimum, no loop guard"),
        (lambda: BeamSearch(Beams(), Limits(STOP, [4]), GREEDY, RowDraws([0], "cpu")), "needs one above 0"),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
