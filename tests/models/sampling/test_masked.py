"""The masked sampler with a network whose right answer is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sampling.draws import RowDraws, gumbel, row_seeds
from models.sampling.masked import TokenChoice, candidate_count, choose, remask_counts, sample_masked

LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=4)
V = 11


def answer(n_rows, n_frames):
    return (torch.arange(n_frames) * 7 + torch.arange(n_rows)[:, None] * 3) % V


@given(LENGTHS, st.integers(1, 12), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_a_certain_network_is_believed(lengths, n_steps, seed):
    right = answer(len(lengths), max(lengths))
    calls = []

    def logits(codes, masked, time, rows):
        calls.append((codes.clone(), masked.clone(), time, rows))
        return torch.nn.functional.one_hot(right, V) * 1000.0

    draws = RowDraws(range(seed, seed + len(lengths)), "cpu")
    codes = sample_masked(logits, lengths, n_steps, TokenChoice(), draws, "cpu")
    for row, length in enumerate(lengths):
        assert torch.equal(codes[row, :length], right[row, :length])
        assert not codes[row, length:].any()
    check_calls(calls, lengths, n_steps, right)


def check_calls(calls, lengths, n_steps, right):
    counts = torch.cat([torch.tensor([lengths]), remask_counts(lengths, n_steps)])
    fixed = counts.diff(dim=0).neg()
    asked = [step for step in range(n_steps) if fixed[step].any()]
    assert [time for _, _, time, _ in calls] == [1 - step / n_steps for step in asked]
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    before = valid
    for step, (codes, masked, _, rows) in zip(asked, calls, strict=True):
        assert rows == fixed[step].nonzero()[:, 0].tolist()
        assert masked.sum(1).tolist() == counts[step].tolist()
        assert not (masked & ~before).any(), "a fixed frame was masked again"
        assert torch.equal(codes, torch.where(valid & ~masked, right, 0))
        before = masked


def random_network(seed):
    """Logits that depend on the row's own codes, as a real network's do."""
    table = torch.randn(V + 1, V, generator=torch.Generator().manual_seed(seed))

    def logits(codes, masked, time, rows):
        seen = torch.where(masked, V, codes)
        around = table[seen] + table[seen.roll(1, 1).index_fill(1, torch.tensor([0]), V)]
        return around * (1 + time)

    return logits


@given(LENGTHS, st.integers(1, 8), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_row_does_not_depend_on_its_batch(lengths, n_steps, seed):
    choice = TokenChoice(temperature=1.5, filter_threshold=0.3)
    seeds = list(range(seed, seed + len(lengths)))
    args = (n_steps, choice)
    together_draws = RowDraws(seeds, "cpu")
    together = sample_masked(random_network(seed), lengths, *args, together_draws, "cpu")
    for row, length in enumerate(lengths):
        draws = RowDraws(seeds[row : row + 1], "cpu")
        alone = sample_masked(random_network(seed), [length], *args, draws, "cpu")
        assert torch.equal(alone[0], together[row, :length])
        # What is drawn next (by the next codebook) is the same too.
        states = [each.generators[i].get_state() for each, i in ((draws, 0), (together_draws, row))]
        assert torch.equal(*states)


def asked_in_every_step(logits_fn, lengths, n_steps, choice, draws):
    """The published loop for one row: logits in every step, also where they fix nothing."""
    masked, codes = torch.ones(1, *lengths, dtype=torch.bool), torch.zeros(1, *lengths, dtype=torch.int64)
    for step, count in enumerate(remask_counts(lengths, n_steps)[:, 0].tolist()):
        time, temperature = 1 - step / n_steps, choice.temperature_at(step, n_steps)
        chosen, confidence = choose(logits_fn(codes, masked, time, [0]), choice, temperature, lengths, draws)
        doubt = 1 - (confidence + time * gumbel(draws.scores(lengths, *lengths)))
        again = torch.zeros_like(masked)
        again[0, doubt.masked_fill(~masked, -torch.inf)[0].argsort(descending=True)[:count]] = True
        codes, masked = torch.where(masked, chosen, codes).masked_fill(again, 0), again
        if not count:
            break
    return codes


@given(st.integers(1, 12), st.integers(1, 40), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_steps_that_fix_nothing_change_nothing(length, n_steps, seed):
    choice, calls = TokenChoice(temperature=1.5, filter_threshold=0.3), []

    def counted(*inputs):
        calls.append(inputs)
        return random_network(seed)(*inputs)

    draws = [RowDraws([seed], "cpu") for _ in range(2)]
    slow = asked_in_every_step(random_network(seed), [length], n_steps, choice, draws[0])
    assert torch.equal(sample_masked(counted, [length], n_steps, choice, draws[1], "cpu"), slow)
    assert len(calls) <= min(length, n_steps)
    assert torch.equal(*(each.generators[0].get_state() for each in draws))


def test_the_filter_leaves_the_most_likely_codes():
    logits = torch.arange(V).float().expand(1, 500, V) * 0.01
    choice = TokenChoice(temperature=5.0, filter_threshold=0.7)
    codes = sample_masked(lambda *_: logits, [500], 4, choice, RowDraws([0], "cpu"), "cpu")
    assert candidate_count(0.7, V) == 4
    assert set(codes.flatten().tolist()) == {7, 8, 9, 10}


def test_codes_are_drawn_as_often_as_their_probability_says():
    logits = torch.tensor([0.6, 0.3, 0.1]).log().expand(1, 20000, 3)
    # With one step the temperature is 0.2, so the logits are scaled to undo it.
    choice = TokenChoice(filter_threshold=0.0)
    codes = sample_masked(lambda *_: logits * 0.2, [20000], 1, choice, RowDraws([1], "cpu"), "cpu")
    shares = torch.bincount(codes[0], minlength=3) / 20000
    torch.testing.assert_close(shares, torch.tensor([0.6, 0.3, 0.1]), rtol=0, atol=0.02)


def test_doubtful_frames_are_masked_again():
    confident = torch.arange(100) % 2 == 0
    logits = torch.zeros(1, 100, V)
    logits[:, confident, 0] = 50.0
    kept = []

    def network(codes, masked, time, rows):
        kept.append(~masked[0])
        return logits

    sample_masked(network, [100], 30, TokenChoice(filter_threshold=0.0), RowDraws([0], "cpu"), "cpu")
    late = kept[-3]
    assert late[confident].float().mean() > late[~confident].float().mean()


@given(LENGTHS, st.integers(1, 60))
def test_counts_fall_to_zero(lengths, n_steps):
    counts = remask_counts(lengths, n_steps)
    assert counts.shape == (n_steps, len(lengths))
    assert (counts[-1] == 0).all()
    assert (counts.diff(dim=0) <= 0).all()
    assert (counts <= torch.tensor(lengths)).all()


def test_counts_follow_the_sine_of_the_time():
    assert remask_counts([100], 6)[:, 0].tolist() == [96, 86, 70, 49, 25, 0]


def test_the_noise_of_the_confidence_falls_with_the_time():
    """All frames are equally certain, so the frames of the least noise are masked again; later the network decides."""

    class Scores(RowDraws):
        def scores(self, lengths, n_frames):
            return torch.linspace(0.1, 0.9, n_frames).expand(len(lengths), -1)

    seen = []

    def network(codes, masked, time, rows):
        seen.append(masked[0].tolist())
        return torch.zeros(1, 10, V)

    sample_masked(network, [10], 2, TokenChoice(), Scores([0], "cpu"), "cpu")
    assert seen[1] == [True] * 7 + [False] * 3
    seen.clear()

    def certain(codes, masked, time, rows):
        seen.append(masked[0].tolist())
        return torch.arange(10).float()[None, :, None] * torch.eye(V)[0]

    # Noise of up to 2.3 apart, as a hundredth of it, against probabilities from 0.09 to 1.
    weak = TokenChoice(filter_threshold=0.0, confidence_noise=0.01)
    falling = Scores([0], "cpu")
    falling.scores = lambda lengths, n_frames: torch.linspace(0.9, 0.1, n_frames)[None]
    sample_masked(certain, [10], 2, weak, falling, "cpu")
    assert seen[1] == [True] * 7 + [False] * 3


def test_the_count_of_candidates_rounds_as_the_reference():
    assert [candidate_count(0.98, size) for size in (50, 100, 1024)] == [2, 3, 21]
    assert candidate_count(0.25, 1024) == 768


def test_seeds_do_not_depend_on_how_rows_are_cut_into_batches():
    whole = row_seeds(torch.Generator().manual_seed(5), 5)
    one = torch.Generator().manual_seed(5)
    assert row_seeds(one, 2) + row_seeds(one, 3) == whole
    assert len(set(whole)) == 5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TokenChoice(temperature=-1), "temperature is -1; it must not be negative"),
        (lambda: TokenChoice(confidence_noise=-0.5), "confidence_noise is -0.5; it must not be negative"),
        (lambda: TokenChoice(filter_threshold=1.0), r"filter_threshold is 1.0; it must be in \[0, 1\)"),
        (
            lambda: sample_masked(None, [3], 0, TokenChoice(), RowDraws([0], "cpu"), "cpu"),
            "n_steps is 0; it must be at least 1",
        ),
    ],
)
def test_settings_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("choice", "steps", "expected"),
    [
        (TokenChoice(temperature=2.0, last_step="greedy"), 4, [2.0, 1.5, 1.0, None]),
        (TokenChoice(temperature=2.0, last_step="drawn"), 4, [2.0, 1.5, 1.0, 0.5]),
        (TokenChoice(temperature=0.0, confidence_noise=0.0, last_step="drawn"), 2, [1e-3, 1e-3]),
        (TokenChoice(temperature=2.0, last_step="greedy", single_step_temperature=0.7), 1, [0.7]),
        (TokenChoice(temperature=2.0, last_step="greedy", single_step_temperature=0.7), 2, [2.0, None]),
        (TokenChoice(temperature=2.0, last_step="greedy", single_step_temperature=None), 1, [None]),
    ],
)
def test_the_temperature_falls_to_the_last_step(choice, steps, expected):
    assert [choice.temperature_at(step, steps) for step in range(steps)] == expected


def test_draws_learn_how_many_codes_there_are():
    """Whatever replays another program's numbers needs it: that program draws for all codes."""
    asked = []

    class Asked(RowDraws):
        def tokens(self, lengths, candidates_BTk, n_codes):
            asked.append((list(lengths), candidates_BTk.shape[-1], n_codes))
            return super().tokens(lengths, candidates_BTk, n_codes)

    choose(torch.zeros(2, 3, V), TokenChoice(filter_threshold=0.75), 0.5, [3, 1], Asked([0, 1], "cpu"))
    assert asked == [([3, 1], 3, V)]
