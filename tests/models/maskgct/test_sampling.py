"""Prompt and guidance closures: one packed call equals a call for each branch; rows are independent."""

import pytest
import torch

from models.layers.masks import length_mask
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.sampling import Conditions, generate_s2a, generate_t2s
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.sampling.draws import RowDraws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import TokenChoice, remask_counts, sample_masked

V, Q = 13, 3
CHOICE = TokenChoice(temperature=1.0, filter_threshold=0.2)
TEXTS, PROMPTS, TARGETS = [6, 2, 9], [4, 0, 7], [10, 15, 3]


def randomised(module):
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def t2s():
    return randomised(MaskGCTT2S(MaskGCTT2SConfig(20, V, 16, 2, 2, 24)))


@pytest.fixture(scope="module")
def s2a():
    return randomised(MaskGCTS2A(MaskGCTS2AConfig(20, Q, V, 16, 2, 2, 24)))


def conditions(rows=slice(None)):
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(0, 20, (3, 9), generator=generator)[rows]
    prompt = torch.randint(0, V, (3, 7, Q), generator=generator)[rows]
    text_lengths, prompt_lengths = torch.tensor(TEXTS)[rows], torch.tensor(PROMPTS)[rows]
    longest_text, longest_prompt = int(text_lengths.max()), int(prompt_lengths.max())
    return Conditions(
        text[:, :longest_text],
        length_mask(text_lengths, longest_text),
        prompt[:, :longest_prompt],
        length_mask(prompt_lengths, longest_prompt),
        TARGETS[rows],
    )


def known_first(rows=slice(None)):
    codes = torch.randint(0, V, (3, 15, 1), generator=torch.Generator().manual_seed(2))[rows]
    return codes[:, : max(TARGETS[rows])]


@pytest.mark.parametrize("guidance", [Guidance(0), Guidance(1.0, 1.0), Guidance(2.0, 0.6)])
def test_t2s_equals_two_separate_calls_of_forward(t2s, guidance):
    """The slow path: the plain forward of each row and branch, everything computed again in every step."""

    def hidden(row, codes, masked, time, conditional):
        given, length = conditions(slice(row, row + 1)), TARGETS[row]
        parts = [t2s.embed_codes(codes[row : row + 1, :length], masked[row : row + 1, :length])]
        if conditional:
            nothing = torch.zeros_like(given.prompt_mask_BP)
            parts.insert(0, t2s.embed_codes(given.prompt_BPQ[..., 0], nothing))
        speech = torch.cat(parts, dim=1)
        text = given.text_BL if conditional else given.text_BL[:, :0]
        masks = (torch.ones_like(text).bool(), torch.ones(speech.shape[:2]).bool())
        times = torch.tensor([time])
        return t2s.trunk(t2s.trunk.embed_text(text), masks[0], speech, masks[1], times)[:, -length:]

    def logits(codes, masked, time, rows):
        result = torch.zeros(3, max(TARGETS), V)
        for row, length in enumerate(TARGETS):
            branches = [hidden(row, codes, masked, time, conditional) for conditional in (True, False)]
            mask = torch.ones(1, length).bool()
            guided = guide(*branches, mask, guidance) if guidance.scale else branches[0]
            result[row, :length] = t2s.head(guided)[0]
        return result

    with torch.no_grad():
        slow = sample_masked(logits, TARGETS, 6, CHOICE, RowDraws([1, 2, 3], "cpu"), "cpu")
    made = generate_t2s(t2s, conditions(), 6, CHOICE, guidance, RowDraws([1, 2, 3], "cpu"))
    fast = made.codes_BTQ[..., 0]
    assert torch.equal(fast, slow)


def test_rows_do_not_depend_on_their_batch(t2s, s2a):
    guidance, steps = Guidance(1.5, 0.7), [9, 4, 1]

    def speak(rows):
        draws = RowDraws([5, 6, 7][rows], "cpu")
        first = generate_t2s(t2s, conditions(rows), 6, CHOICE, guidance, draws)
        return generate_s2a(s2a, conditions(rows), first.codes_BTQ, steps, CHOICE, guidance, draws).codes_BTQ

    together = speak(slice(0, 3))
    for row, length in enumerate(TARGETS):
        assert torch.equal(speak(slice(row, row + 1))[0], together[row, :length])


def test_passes_are_those_of_steps_that_fix_a_frame(t2s, s2a):
    """Of 30 steps for 3 frames three fix one; of a batch all count in which any row does."""
    counts = [
        generate_t2s(t2s, conditions(rows), 30, CHOICE, Guidance(scale), RowDraws([1, 2, 3][rows], "cpu"))
        for rows in (slice(2, 3), slice(0, 3))
        for scale in (0.0, 1.0)
    ]
    remaining = torch.cat([torch.tensor([TARGETS]), remask_counts(TARGETS, 30)])
    together = int((remaining.diff(dim=0) != 0).any(1).sum())
    assert [made.evaluations for made in counts] == [3, 6, together, 2 * together]


def test_s2a_keeps_what_is_known(s2a):
    codes = generate_s2a(
        s2a, conditions(), known_first(), [1, 3, 2], CHOICE, Guidance(), RowDraws([1, 2, 3], "cpu")
    ).codes_BTQ
    valid = length_mask(torch.tensor(TARGETS), max(TARGETS))
    assert codes.shape == (3, 15, Q)
    assert torch.equal(codes[..., :1], known_first())
    assert ((codes >= 0) & (codes < V)).all()
    assert not codes[..., 1:][~valid].any()


def test_the_embedding_of_one_level_completes_the_others(s2a):
    codes = torch.randint(0, V, (2, 5, Q))
    hidden = torch.zeros(2, 5, Q, dtype=torch.bool)
    for level in range(Q):
        hidden[..., level], hidden[..., level + 1 :] = torch.rand(2, 5) < 0.5, True
        parts = s2a.embed_other_levels(codes, level) + s2a.embed_level(
            codes[..., level], hidden[..., level], level
        )
        torch.testing.assert_close(parts, s2a.embed_codes(codes, hidden))
        hidden[..., level] = False


def test_steps_are_counted(s2a):
    with pytest.raises(ValueError, match="n_steps has 2 entries; it must have one for each of 3 levels"):
        generate_s2a(s2a, conditions(), known_first(), [1, 1], CHOICE, Guidance(), RowDraws([1, 2, 3], "cpu"))


def test_rescaling_brings_back_the_deviation_of_each_row():
    torch.manual_seed(0)
    conditional, unconditional = torch.randn(2, 6, 8), torch.randn(2, 6, 8)
    mask = length_mask(torch.tensor([6, 3]), 6)
    guided = guide(conditional, unconditional, mask, Guidance(3.0, 1.0))
    for row, length in enumerate([6, 3]):
        torch.testing.assert_close(guided[row, :length].std(), conditional[row, :length].std())
    changed = conditional.clone()
    changed[1] *= 9
    again = guide(changed, unconditional, mask, Guidance(3.0, 1.0))
    assert torch.equal(again[0], guided[0])
    as_reference = Guidance(3.0, 1.0, deviation="batch")
    assert not torch.equal(
        guide(changed, unconditional, mask, as_reference)[0],
        guide(conditional, unconditional, mask, as_reference)[0],
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"scale": -0.5}, "guidance scale is -0.5; it must not be negative"),
        ({"rescale": 1.1}, "guidance rescale is 1.1; it must be between 0 and 1"),
        ({"deviation": "all"}, "guidance deviation is 'all'; it must be 'row' or 'batch'"),
    ],
)
def test_guidance_is_checked(values, message):
    with pytest.raises(ValueError, match=message):
        Guidance(**values)
