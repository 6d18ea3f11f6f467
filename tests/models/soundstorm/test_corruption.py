"""Invariants of SoundStorm's training batches."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.masks import length_mask
from models.sampling.draws import GeneratorDraws
from models.soundstorm.corruption import CorruptionConfig, corrupt

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)
CONFIGS = st.builds(
    CorruptionConfig, st.sampled_from(["cosine", "linear"]), st.sampled_from(["row", "batch"])
)


class Fixed(GeneratorDraws):
    """Every row's time is the same, and known."""

    def __init__(self, generator, time):
        super().__init__(generator)
        self.time = time

    def rand(self, *shape):
        drawn = super().rand(*shape)
        return torch.full(shape, self.time) if self.time is not None and len(shape) == 1 else drawn

    def randint(self, low_B, high_B):
        return GeneratorDraws(self.generator).randint(low_B, high_B)


def drawn(lengths, config, seed=0, padding=0, time=None, n_levels=5):
    draws = Fixed(torch.Generator().manual_seed(seed), time)
    return corrupt(torch.tensor(lengths), max(lengths) + padding, n_levels, config, draws)


@given(LENGTHS, CONFIGS, st.integers(0, 9), st.integers(0, 999))
@settings(deadline=None, max_examples=80)
def test_only_valid_frames_behind_the_prompt_are_masked(lengths, config, padding, seed):
    found = drawn(lengths, config, seed, padding)
    size = max(lengths) + padding
    behind = length_mask(torch.tensor(lengths), size) & ~length_mask(found.prompt_lengths_B, size)
    assert not (found.masked_BT & ~behind).any()
    assert found.masked_BT.any(1).all()
    assert ((found.levels_B >= 0) & (found.levels_B < 5)).all()
    if config.draw_per == "batch":
        assert len(set(found.levels_B.tolist())) == len(set(found.prompt_lengths_B.tolist())) == 1


@given(
    LENGTHS, st.sampled_from(["cosine", "linear"]), st.integers(0, 999), st.sampled_from([0.0, 0.25, 0.75])
)
@settings(deadline=None, max_examples=60)
def test_the_masked_count_is_exact(lengths, schedule, seed, time):
    found = drawn(lengths, CorruptionConfig(schedule), seed, time=time)
    share = math.cos(math.pi / 2 * time) if schedule == "cosine" else 1 - time
    for masked, prompt, length in zip(found.masked_BT, found.prompt_lengths_B, lengths, strict=True):
        assert masked.sum() == max(math.ceil((length - int(prompt)) * share), 1)


def test_frames_are_masked_evenly_and_levels_drawn_evenly():
    found = drawn([12] * 6000, CorruptionConfig("linear"), time=0.5, n_levels=3)
    behind = ~length_mask(found.prompt_lengths_B, 12)
    share_T = found.masked_BT.sum(0) / behind.sum(0)
    assert share_T[4:].std() < 0.02
    assert torch.bincount(found.levels_B).float().std() / 2000 < 0.05


def test_lower_levels_are_drawn_more_often_if_told():
    for draw_per in ("row", "batch"):
        config = CorruptionConfig(draw_per=draw_per, level_schedule="linear")
        found = [
            drawn([4] * (6000 if draw_per == "row" else 2), config, seed, n_levels=3) for seed in range(3)
        ]
        levels_N = torch.cat([one.levels_B for one in found])
        assert set(levels_N.tolist()) <= {0, 1, 2}
        if draw_per == "row":
            assert (torch.bincount(levels_N) / len(levels_N)).tolist() == pytest.approx(
                [1 / 2, 1 / 3, 1 / 6], abs=0.02
            )
        else:
            assert all(len(set(one.levels_B.tolist())) == 1 for one in found)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "square"}, "schedule is 'square'; it must be one of cosine, linear"),
        ({"level_schedule": "cosine"}, "level_schedule is 'cosine'; it must be one of uniform, linear"),
        ({"draw_per": "item"}, "draw_per is 'item'; it must be one of row, batch"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        CorruptionConfig(**values)
