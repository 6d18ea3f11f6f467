"""Invariants of the flow's training batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.flow_matching.corruption import CorruptionConfig, corrupt
from models.flow_matching.path import Path
from models.layers.masks import length_mask
from models.sampling.draws import GeneratorDraws

PLAIN = Path()
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=4)
PATHS = st.builds(Path, st.sampled_from([0.0, 0.1]), st.booleans(), st.booleans())


def drawn(lengths, config, seed=0, path=PLAIN, padding=0):
    generator = torch.Generator().manual_seed(seed)
    size = max(lengths) + padding
    latents = torch.randn(len(lengths), size, 3, generator=generator)
    semantic = torch.randn(len(lengths), size, 3, generator=generator)
    found = corrupt(latents, semantic, torch.tensor(lengths), path, config, GeneratorDraws(generator))
    return latents, semantic, found


@given(LENGTHS, st.sampled_from(["prefix", "span"]), PATHS, st.integers(0, 9), st.integers(0, 999))
@settings(deadline=None, max_examples=60)
def test_given_and_hidden_frames_make_up_the_row(lengths, prompts, path, padding, seed):
    config = CorruptionConfig(prompts, max_prompt_frames=20, condition_drop_prob=0.3)
    latents, _semantic, found = drawn(lengths, config, seed, path, padding)
    valid = length_mask(torch.tensor(lengths), latents.shape[1])
    given_frames = (found.prompt_BTZ != 0).any(-1)
    assert torch.equal(given_frames | found.hidden_BT, valid)
    assert not (given_frames & found.hidden_BT).any()
    assert torch.equal(found.prompt_BTZ[given_frames], latents[given_frames])
    assert found.hidden_BT.any(1).all()
    assert not given_frames[~found.keep_B].any()
    assert ((found.times_B >= 0) & (found.times_B < 1)).all()


@given(LENGTHS, PATHS, st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_following_the_velocity_leads_to_the_latents(lengths, path, seed):
    latents, semantic, found = drawn(lengths, CorruptionConfig(), seed, path)
    time = found.times_B[:, None, None]
    end = found.state_BTZ + (1 - time) * found.velocity_BTZ
    prior = found.state_BTZ - time * found.velocity_BTZ
    expected = path.end(latents, semantic) + path.sigma * prior
    torch.testing.assert_close(end, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(path.latents(path.end(latents, semantic), semantic), latents)


def test_a_prior_around_the_semantic_embedding():
    _latents, semantic, found = drawn([40] * 50, CorruptionConfig(), path=Path(start_from_cond=True))
    prior = found.state_BTZ - found.times_B[:, None, None] * found.velocity_BTZ
    torch.testing.assert_close((prior - semantic).mean(), torch.tensor(0.0), rtol=0, atol=0.05)
    torch.testing.assert_close((prior - semantic).std(), torch.tensor(1.0), rtol=0, atol=0.05)


@given(LENGTHS, st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_spans_leave_what_is_around_them(lengths, seed):
    config = CorruptionConfig("span", min_span=0.5, condition_drop_prob=0)
    _latents, _semantic, found = drawn(lengths, config, seed)
    for hidden, length in zip(found.hidden_BT, lengths, strict=True):
        places = hidden.nonzero()[:, 0].tolist()
        assert places == list(range(places[0], places[-1] + 1))
        assert 0.5 * length <= len(places) <= length


@given(LENGTHS, st.sampled_from(["row", "batch"]), st.integers(0, 30), st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_prefixes_are_bounded(lengths, draw_per, most, seed):
    config = CorruptionConfig(max_prompt_frames=most, condition_drop_prob=0, draw_per=draw_per)
    _latents, _semantic, found = drawn(lengths, config, seed)
    prefixes = torch.tensor(lengths) - found.hidden_BT.sum(1)
    assert (prefixes <= most).all()
    assert draw_per == "row" or len(set(prefixes.tolist())) == 1


def test_conditions_are_dropped_as_often_as_wanted():
    _latents, _semantic, found = drawn([5] * 4000, CorruptionConfig(condition_drop_prob=0.25))
    assert found.keep_B.float().mean() == pytest.approx(0.75, abs=0.03)
    assert drawn([5] * 50, CorruptionConfig(condition_drop_prob=0))[2].keep_B.all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"prompts": "suffix"}, "prompts is 'suffix'; it must be one of prefix, span"),
        ({"draw_per": "item"}, "draw_per is 'item'; it must be one of row, batch"),
        ({"min_span": 1.2}, "min_span is 1.2; it must be between 0 and 1"),
        ({"condition_drop_prob": -0.1}, "condition_drop_prob is -0.1; it must be between 0 and 1"),
        ({"max_prompt_frames": -1}, "max_prompt_frames is -1; it must not be negative"),
    ],
)
def test_settings_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        CorruptionConfig(**values)
