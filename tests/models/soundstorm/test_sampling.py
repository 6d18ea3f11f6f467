"""Sampling level by level: with a network whose right answer is obvious, and rows against their batch."""

import pytest
import torch
from torch import nn

from models.sampling.draws import RowDraws
from models.sampling.masked import remask_counts
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.soundstorm.sampling import Conditions, SoundStormOptions, generate

V, S, Q = 13, 9, 4
TARGETS, PROMPTS, SEEDS = [7, 11, 4], [5, 0, 3], [1, 2, 3]


def right_codes(semantic):
    """Level 0 follows from the semantic token, each further level from the one below."""
    levels = [semantic % V]
    for level in range(1, Q):
        levels.append((levels[-1] * 2 + level) % V)
    return torch.stack(levels, dim=-1)


def conditions(rows=slice(None)):
    generator = torch.Generator().manual_seed(1)
    targets, prompts = TARGETS[rows], PROMPTS[rows]
    target = torch.randint(0, S, (3, 11), generator=generator)[rows, : max(targets)]
    prompt = torch.randint(0, S, (3, 5), generator=generator)[rows, : max(prompts)]
    codes = torch.randint(0, V, (3, 5, Q), generator=generator)[rows, : max(prompts)]
    return Conditions(target, targets, prompt, codes, prompts)


class Knowing(nn.Module):
    """Says the right code of a level wherever the level below it is known; keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.heads = self.say

    def embed_semantic(self, semantic):
        return torch.cat([semantic[..., None], torch.zeros(*semantic.shape, Q)], dim=-1)

    def embed_codes(self, codes, hidden):
        self.seen.append((codes.clone(), hidden.clone()))
        return torch.cat([torch.zeros(*codes.shape[:2], 1), codes.masked_fill(hidden, 1000)], dim=-1)

    def backbone(self, x, mask):
        return x

    def say(self, states, level):
        below = states[..., level].long()
        codes = below % V if level == 0 else (below * 2 + level) % V
        return torch.nn.functional.one_hot(codes, V) * 1000.0


def test_every_level_above_the_first_takes_one_pass():
    network, given = Knowing(), conditions()
    made = generate(network, given, SoundStormOptions(steps=5), RowDraws(SEEDS, "cpu"))
    assert made.evaluations == len(network.seen) == 5 + Q - 1
    for row, length in enumerate(TARGETS):
        assert torch.equal(made.codes_BTQ[row, :length], right_codes(given.semantic_BT[row, :length]))
        assert not made.codes_BTQ[row, length:].any()


def test_levels_above_are_masked_and_prompts_are_shown():
    network, given = Knowing(), conditions()
    generate(network, given, SoundStormOptions(steps=3, num_full_sampling_levels=2), RowDraws(SEEDS, "cpu"))
    levels = [0] * 3 + [1] * 3 + [2, 3]
    assert len(network.seen) == len(levels)
    left = torch.cat([torch.tensor([TARGETS]), remask_counts(TARGETS, 3)])[:3].tolist() * 2 + [TARGETS] * 2
    for level, counts, (codes, hidden) in zip(levels, left, network.seen, strict=True):
        for row, (before, length) in enumerate(zip(PROMPTS, TARGETS, strict=True)):
            assert not hidden[row, :before].any()
            assert torch.equal(codes[row, :before], given.prompt_BPQ[row, :before])
            target = hidden[row, before : before + length]
            assert target[:, level + 1 :].all()
            assert target[:, level].sum() == counts[row]
            assert not target[:, :level].any()


def build():
    torch.manual_seed(0)
    sizes = {"hidden_size": 12, "n_layers": 2, "n_heads": 2, "feed_forward_size": 16, "conv_kernel_size": 3}
    module = SoundStorm(SoundStormConfig(**sizes, n_semantic_tokens=S, n_codebooks=Q, codebook_size=V))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


OPTIONS = {
    "greedy": SoundStormOptions(steps=4),
    "drawn": SoundStormOptions(steps=3, num_full_sampling_levels=2, greedy=False, topk_pres=0.2),
    "no full level": SoundStormOptions(num_full_sampling_levels=0),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_row_does_not_depend_on_its_batch(options):
    model = build()
    together = generate(model, conditions(), options, RowDraws(SEEDS, "cpu"))
    for row, length in enumerate(TARGETS):
        part = slice(row, row + 1)
        alone = generate(model, conditions(part), options, RowDraws(SEEDS[part], "cpu"))
        assert torch.equal(alone.codes_BTQ[0], together.codes_BTQ[row, :length])
        assert alone.evaluations == together.evaluations


def test_a_network_in_bfloat16_gives_codes():
    made = generate(build().bfloat16(), conditions(), OPTIONS["drawn"], RowDraws(SEEDS, "cpu"))
    assert made.codes_BTQ.shape == (3, 11, Q)
    assert ((made.codes_BTQ >= 0) & (made.codes_BTQ < V)).all()


def same_lengths():
    given = conditions()
    return Conditions(
        given.semantic_BT[:, :6], [6] * 3, given.prompt_semantic_BP[:, :2], given.prompt_BPQ[:, :2], [2] * 3
    )


@pytest.mark.parametrize(("greedy", "seeded"), [(True, True), (False, False)])
def test_only_greedy_levels_do_without_randomness(greedy, seeded):
    options = SoundStormOptions(num_full_sampling_levels=0, greedy=greedy, topk_pres=0.1)
    one, other = (
        generate(build(), same_lengths(), options, RowDraws(seeds, "cpu")) for seeds in (SEEDS, [7, 8, 9])
    )
    assert torch.equal(one.codes_BTQ, other.codes_BTQ) is seeded


@pytest.mark.parametrize(
    ("options", "evaluations"),
    [
        # Two of the eight steps fix none of six frames.
        (SoundStormOptions(), 6 + Q - 1),
        (SoundStormOptions(schedule="published"), 9 * Q),
        (SoundStormOptions(once_all_tokens=True), 1),
        (SoundStormOptions(once_all_tokens=True, greedy=False), 1),
    ],
)
def test_evaluations_are_counted(options, evaluations):
    made = generate(build(), same_lengths(), options, RowDraws(SEEDS, "cpu"))
    assert made.evaluations == evaluations
    assert made.codes_BTQ.shape == (3, 6, Q)
    assert ((made.codes_BTQ >= 0) & (made.codes_BTQ < V)).all()


def test_the_published_way_is_another_one():
    fixed, published = (
        generate(build(), same_lengths(), SoundStormOptions(schedule=schedule), RowDraws(SEEDS, "cpu"))
        for schedule in ("fixed", "published")
    )
    assert not torch.equal(fixed.codes_BTQ, published.codes_BTQ)


@pytest.mark.parametrize("options", [{"schedule": "published"}, {"once_all_tokens": True}])
def test_the_published_way_takes_rows_of_one_length(options):
    with pytest.raises(
        ValueError, match="rows differ in length; once_all_tokens and the schedule 'published'"
    ):
        generate(build(), conditions(), SoundStormOptions(**options), RowDraws(SEEDS, "cpu"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"schedule": "old"}, "schedule is 'old'; it must be one of fixed, published"),
        ({"num_full_sampling_levels": -1}, "num_full_sampling_levels is -1; it must not be negative"),
        ({"topk_pres": 1.0}, r"topk_pres is 1.0; it must be in \[0, 1\)"),
        ({"generator_sample_temperature": -1}, "generator_sample_temperature is -1; it must not be negative"),
    ],
)
def test_options_are_checked(values, message):
    with pytest.raises(ValueError, match=message):
        SoundStormOptions(**values)
