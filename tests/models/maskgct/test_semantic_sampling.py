"""S2A with semantic tokens: one packed call equals a call for each branch; rows are independent; levels are known."""

import pytest
import torch

from models.layers.masks import length_mask
from models.maskgct.sampling import SemanticConditions, generate_semantic_s2a
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.sampling.draws import RowDraws
from models.sampling.guidance import Guidance, guide
from models.sampling.masked import TokenChoice, sample_masked

S, V, Q = 11, 13, 3
CHOICE = TokenChoice(temperature=1.0, filter_threshold=0.2)
PROMPTS, TARGETS = [4, 0, 7], [10, 15, 3]


def randomised(**settings):
    torch.manual_seed(0)
    module = MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(S, Q, V, 16, 2, 2, 24, **settings))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def s2a():
    return randomised()


def conditions(rows=slice(None)):
    generator = torch.Generator().manual_seed(1)
    semantic = torch.randint(0, S, (3, 15), generator=generator)[rows]
    prompt_semantic = torch.randint(0, S, (3, 7), generator=generator)[rows]
    # As many levels as the codec has, which may be more than the network's.
    prompt = torch.randint(0, V, (3, 7, Q + 1), generator=generator)[rows]
    lengths, longest = torch.tensor(PROMPTS)[rows], max(PROMPTS[rows])
    return SemanticConditions(
        semantic[:, : max(TARGETS[rows])],
        prompt_semantic[:, :longest],
        prompt[:, :longest],
        length_mask(lengths, longest),
        TARGETS[rows],
    )


def known(n_levels, rows=slice(None)):
    codes = torch.randint(0, V, (3, 15, n_levels), generator=torch.Generator().manual_seed(2))[rows]
    return codes[:, : max(TARGETS[rows])]


@pytest.mark.parametrize("guidance", [Guidance(0), Guidance(2.5, 0.75)])
def test_a_level_equals_separate_calls_of_forward(s2a, guidance):
    """The slow path: the plain forward of each row and branch, everything computed again in every step."""
    level, given_all = Q - 1, known(Q - 1)

    def hidden(row, codes, masked, time, n_prompt):
        given, length = conditions(slice(row, row + 1)), TARGETS[row]
        whole = torch.cat([given_all[row, :length], codes[row, :length, None]], dim=-1)
        codes_BTQ = torch.cat([given.prompt_BPQ[:, :n_prompt, :Q], whole[None]], dim=1)
        semantic = torch.cat([given.prompt_semantic_BP[:, :n_prompt], given.semantic_BT[:, :length]], dim=1)
        seen = torch.cat([torch.zeros(1, n_prompt).bool(), masked[row : row + 1, :length]], dim=1)
        hidden_BTQ = torch.zeros_like(codes_BTQ, dtype=torch.bool)
        hidden_BTQ[..., level] = seen
        x = s2a.embed_codes(codes_BTQ, hidden_BTQ) + s2a.condition(semantic, torch.tensor([level]))
        valid = torch.ones_like(semantic, dtype=torch.bool)
        return s2a.transformer(x, torch.tensor([time]), valid, None)[:, -length:]

    def logits(codes, masked, time, rows):
        result = torch.zeros(3, max(TARGETS), V)
        for row, length in enumerate(TARGETS):
            branches = [hidden(row, codes, masked, time, n_prompt) for n_prompt in (PROMPTS[row], 0)]
            mask = torch.ones(1, length).bool()
            guided = guide(*branches, mask, guidance) if guidance.scale else branches[0]
            result[row, :length] = s2a.logits(guided, level)[0]
        return result

    with torch.no_grad():
        slow = sample_masked(logits, TARGETS, 6, CHOICE, RowDraws([1, 2, 3], "cpu"), "cpu")
    draws = RowDraws([1, 2, 3], "cpu")
    made = generate_semantic_s2a(s2a, conditions(), given_all, [1, 1, 6], CHOICE, guidance, draws)
    assert torch.equal(made.codes_BTQ[..., level], slow)
    assert torch.equal(made.codes_BTQ[..., :level], given_all)
    assert made.evaluations == (12 if guidance.scale else 6)


def test_rows_do_not_depend_on_their_batch(s2a):
    def made(rows):
        nothing = known(0, rows)
        draws = RowDraws([5, 6, 7][rows], "cpu")
        return generate_semantic_s2a(
            s2a, conditions(rows), nothing, [9, 4, 1], CHOICE, Guidance(1.5, 0.7), draws
        ).codes_BTQ

    together = made(slice(0, 3))
    for row, length in enumerate(TARGETS):
        assert torch.equal(made(slice(row, row + 1))[0], together[row, :length])


def test_a_network_without_the_first_level_wants_it_given():
    draws = RowDraws([1, 2, 3], "cpu")
    with pytest.raises(ValueError, match="0 levels are given; the network generates from level 1 on"):
        generate_semantic_s2a(
            randomised(first_level=1), conditions(), known(0), [1, 1, 1], CHOICE, Guidance(), draws
        )
    with pytest.raises(ValueError, match="first_level is 3; it must be from 0 to 2, the last of 3 codebooks"):
        MaskGCTSemanticS2AConfig(n_codebooks=3, first_level=3)
