"""Invariants of the forward diffusion."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.maskgct.corruption import CorruptionConfig, corrupt, level_weights
from models.sampling.draws import GeneratorDraws

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def drawn(lengths, seed, config, weights=None, padding=0):
    generator = torch.Generator().manual_seed(seed)
    return corrupt(torch.tensor(lengths), max(lengths) + padding, config, GeneratorDraws(generator), weights)


@given(LENGTHS, st.integers(0, 10**6), st.sampled_from(["row", "batch"]), st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_only_valid_frames_behind_the_prompt_are_hidden(lengths, seed, draw_per, padding):
    config = CorruptionConfig(draw_per=draw_per)
    found = drawn(lengths, seed, config, level_weights(4, "cosine", 1), padding)
    for row, length in enumerate(lengths):
        prompt, masked_T = int(found.prompt_lengths_B[row]), found.masked_BT[row]
        assert prompt == 0 or min(length // 4, 5) <= prompt < 0.4 * length
        assert masked_T.any(), "a row without hidden frames teaches nothing"
        assert not masked_T[:prompt].any()
        assert not masked_T[length:].any()
        assert prompt == 0 or bool(found.keep_text_B[row])
        assert 1 <= int(found.levels_B[row]) < 4
    assert ((found.mask_prob_B >= 0.2) & (found.mask_prob_B <= 1)).all()


def test_the_share_of_hidden_frames_follows_the_sine():
    config = CorruptionConfig(min_mask_prob=0, prompt_drop_prob=1.0, text_drop_prob=0)
    found = drawn([2000] * 40, 0, config)
    share_B = found.masked_BT.float().mean(1)
    torch.testing.assert_close(share_B, torch.sin(found.times_B * torch.pi / 2), rtol=0, atol=0.05)


def test_coins_fall_as_often_as_asked():
    found = drawn([100] * 4000, 1, CorruptionConfig(prompt_drop_prob=0.3, text_drop_prob=0.1))
    assert (~found.keep_text_B).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert (found.prompt_lengths_B == 0).float().mean().item() == pytest.approx(1 - 0.9 * 0.7, abs=0.03)


def test_one_coin_a_batch_gives_all_rows_a_prompt_or_none():
    config = CorruptionConfig(text_drop_prob=0, draw_per="batch")
    counts = {int((drawn([50] * 6, seed, config).prompt_lengths_B > 0).sum()) for seed in range(40)}
    assert counts == {0, 6}


def test_a_row_without_a_prompt_takes_none_from_the_others():
    config = CorruptionConfig(text_drop_prob=0)
    prompts = [drawn([50] * 6, seed, config).prompt_lengths_B.tolist() for seed in range(40)]
    assert any(first == 0 and any(others) for first, *others in prompts)


class Given(GeneratorDraws):
    """Uniform numbers that are all the same, and everything hidden."""

    def __init__(self, number):
        super().__init__(torch.Generator())
        self.number = number

    def rand(self, *shape):
        return torch.full(shape, self.number)

    def bernoulli(self, probabilities_BT):
        return torch.ones_like(probabilities_BT, dtype=torch.bool)


def test_everything_may_be_hidden_but_the_prompt():
    config = CorruptionConfig(text_drop_prob=0, min_prompt_frames=5, max_prompt_fraction=0.4)
    found = corrupt(torch.tensor([20, 4]), 22, config, Given(0.5))
    # From min(length // 4, 5) up to 0.4 of the length, in the middle; four frames leave nothing to draw from.
    assert found.prompt_lengths_B.tolist() == [6, 0]
    assert [row.nonzero()[:, 0].tolist() for row in found.masked_BT] == [list(range(6, 20)), [0, 1, 2, 3]]


def test_the_time_is_never_0():
    found = corrupt(torch.tensor([20]), 20, CorruptionConfig(), Given(0.0))
    assert found.times_B.tolist() == pytest.approx([1e-5])


def test_level_weights_are_those_of_the_paper():
    assert level_weights(4, "linear").tolist() == [4, 3, 2, 1]
    assert level_weights(4, "uniform", 1).tolist() == [0, 1, 1, 1]
    assert level_weights(3, "cosine", 1).tolist() == pytest.approx([0, 1, 0.8660254])


@pytest.mark.parametrize(
    "name", ["min_mask_prob", "prompt_drop_prob", "text_drop_prob", "max_prompt_fraction"]
)
def test_probabilities_are_checked(name):
    with pytest.raises(ValueError, match=f"{name} is 1.5; it must be between 0 and 1"):
        CorruptionConfig(**{name: 1.5})
