"""Random numbers of samplers and corruptions: each row's own stream, known answers, and the ends of the ranges."""

from __future__ import annotations

import math

import pytest
import torch

from models.sampling.draws import GeneratorDraws, RowDraws, gumbel, row_seeds


@pytest.mark.parametrize(
    ("uniform", "noise"),
    [
        (0.0, -math.log(-math.log(1e-10))),  # where the logarithm would be infinite
        (math.exp(-1), 0.0),
        (math.exp(-math.exp(-2)), 2.0),
        (1.0, -math.log(1e-10)),
    ],
)
def test_gumbel_noise_is_finite_and_right(uniform: float, noise: float) -> None:
    assert float(gumbel(torch.tensor(uniform))) == pytest.approx(noise, rel=1e-4, abs=1e-5)


def stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_row_takes_what_it_needs_from_its_own_stream() -> None:
    draws = RowDraws([3, 4, 5], "cpu")
    scores_BT = draws.scores([2, 0, 3], 4)
    tokens_BTk = draws.tokens([1, 2, 0], torch.zeros(3, 2, 3, dtype=torch.int64), 9)
    noise_BTD = draws.normal([0, 1, 2], 2)
    first, second, third = map(stream, (3, 4, 5))
    expected_BT = torch.zeros(3, 4)
    expected_BT[0, :2].uniform_(generator=first)
    expected_BT[2, :3].uniform_(generator=third)
    assert torch.equal(scores_BT, expected_BT)
    expected_BTk = torch.zeros(3, 2, 3)
    expected_BTk[0, :1].uniform_(generator=first)
    expected_BTk[1].uniform_(generator=second)
    assert torch.equal(tokens_BTk, expected_BTk)
    expected_BTD = torch.zeros(3, 2, 2)
    expected_BTD[1, :1].normal_(generator=second)
    expected_BTD[2].normal_(generator=third)
    assert torch.equal(noise_BTD, expected_BTD)


def test_some_rows_share_the_streams_of_all() -> None:
    draws, alone = RowDraws([3, 4], "cpu"), RowDraws([4], "cpu")
    some = draws.rows([1])
    assert torch.equal(some.scores([5], 5), alone.scores([5], 5))
    assert torch.equal(draws.scores([0, 5], 5)[1:], alone.scores([5], 5))
    for draw in (draws.scores, draws.normal):
        with pytest.raises(ValueError, match="zip"):
            draw([1], 2)


def test_a_generator_draws_in_its_order() -> None:
    draws, same = GeneratorDraws(stream(1)), stream(1)
    assert draws.device == torch.device("cpu")
    assert torch.equal(draws.rand(2, 3), torch.rand(2, 3, generator=same))
    assert torch.equal(draws.randn(2, 3), torch.randn(2, 3, generator=same))
    weights_Q = torch.tensor([0.0, 1.0, 3.0])
    drawn = draws.multinomial(weights_Q, 4000)
    assert torch.equal(drawn, torch.multinomial(weights_Q, 4000, replacement=True, generator=same))
    assert torch.bincount(drawn).tolist() == pytest.approx([0, 1000, 3000], abs=120)
    hidden_BT = draws.bernoulli(torch.tensor([[0.0], [0.25], [1.0]]).expand(3, 4000))
    assert hidden_BT.dtype == torch.bool
    assert hidden_BT.float().mean(1).tolist() == [0.0, pytest.approx(0.25, abs=0.03), 1.0]


class Fixed(GeneratorDraws):
    """The same uniform number for all."""

    def __init__(self, number: float) -> None:
        super().__init__(torch.Generator())
        self.number = number

    def rand(self, *shape: int) -> torch.Tensor:
        return torch.full(shape, self.number)


@pytest.mark.parametrize(
    ("number", "expected"), [(0.0, [2, 5, 0]), (0.5, [3, 5, 50_000_000]), (1 - 2**-24, [4, 5, 99_999_999])]
)
def test_whole_numbers_lie_below_their_end(number: float, expected: list[int]) -> None:
    """2 to 4, an empty range, and a range in which float32 would round up to the end."""
    low_B, high_B = torch.tensor([2, 5, 0]), torch.tensor([5, 5, 100_000_000])
    *small, large = Fixed(number).randint(low_B, high_B).tolist()
    assert (small, large) == (expected[:2], pytest.approx(expected[2], abs=8))
    assert 0 <= large < 100_000_000


def test_seeds_of_rows_do_not_depend_on_batches() -> None:
    one, other = stream(2), stream(2)
    together = row_seeds(one, 5)
    assert row_seeds(other, 2) + row_seeds(other, 3) == together
    assert len(set(together)) == 5
    assert all(0 <= seed < 2**62 for seed in together)
    assert max(together) > 2**58
