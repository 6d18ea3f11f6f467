"""Generating with a cache gives what recomputing everything gives, code for code, and each row what it gives alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.layers.masks import pad_rows
from models.manifest import Padding
from models.sampling.autoregressive import Limits, Sampler, generate
from models.sampling.draws import RowDraws
from models.sampling.token_sampling import TokenSampling
from models.valle import example
from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR
from models.valle.sampling import Conditions, generate_first_level, generate_other_levels

STOP = 9
TRUNKS = [("transformer", 0), ("retnet", 0), ("retnet", 4)]


def build(trunk="transformer", chunk=0, seed=3):
    torch.manual_seed(seed)
    module = ValleAR(example.ar(trunk, chunk).config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def conditions(rows, **padding):
    inputs = example.ar().batch(rows, Padding(**padding))
    return Conditions(*(inputs[key] for key in ("text_BL", "text_mask_BL", "prompt_BPQ", "prompt_mask_BP")))


def sampler(n_rows, seeds, temperature, maximum=12):
    limits = Limits(STOP, [maximum - row for row in range(n_rows)])
    return Sampler(TokenSampling(temperature, top_p=0.9), limits, RowDraws(seeds, "cpu"))


class Recompute:
    """The published way: the whole sequence again for every token."""

    def __init__(self, model, given):
        self.model, self.given = model, given
        self.codes_BT = given.text_BL[:, :0]

    def logits(self):
        mask_BT = torch.ones_like(self.codes_BT, dtype=torch.bool)
        return self.model(*self.given.inputs(), self.codes_BT, mask_BT)[:, -1]

    def step(self, tokens_B, _state):
        self.codes_BT = torch.cat([self.codes_BT, tokens_B[:, None]], dim=1)
        return self.logits()


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_generation_equals_recomputation(trunk, temperature):
    model, rows = build(*trunk), example.ar().rows
    seeds = range(len(rows))
    found = generate_first_level(model, conditions(rows), sampler(3, seeds, temperature), 12)
    slow = Recompute(model, conditions(rows))
    expected = generate(slow.logits(), slow.step, None, sampler(3, seeds, temperature))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.tokens_N, other.tokens_N)
        assert one.finish_reason == other.finish_reason
    assert max(len(one.tokens_N) for one in found) > 3


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
@pytest.mark.parametrize("reads", ["used", "all"])
def test_cached_logits_equal_those_of_the_whole_sequence(trunk, reads):
    """Rows whose prefixes differ in length are fed their own codes, one after another."""
    model, rows, known = build(*trunk), example.ar().rows, 2
    inputs = example.ar().batch(rows, Padding(2, "left", 5))
    expected = model(**inputs)
    codes_BT = inputs["codes_BT"]
    prefix = {**inputs, "codes_BT": codes_BT[:, :known], "codes_mask_BT": inputs["codes_mask_BT"][:, :known]}
    logits, state = model.prefill(**prefix, max_tokens=codes_BT.shape[1], reads=reads)
    found = torch.stack([logits, *(model.step(codes_B, state) for codes_B in codes_BT[:, known:].T)], dim=1)
    for row, given_row in enumerate(rows):
        size = len(given_row["codes_TQ"]) + 1 - known
        torch.testing.assert_close(
            found[row, :size], expected[row, known : known + size], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
@given(st.sampled_from(TRUNKS), st.integers(0, 99), st.sampled_from([0.0, 0.8]))
@settings(deadline=None, max_examples=20)
def test_a_row_does_not_depend_on_its_batch(trunk, seed, temperature):
    model, rows = build(*trunk, seed=seed), example.ar().rows
    seeds = list(range(seed, seed + len(rows)))
    given_rows = conditions(rows, extra=3, side="left", junk=4)
    together = generate_first_level(model, given_rows, sampler(3, seeds, temperature), 12)
    for row, one in enumerate(rows):
        limits = Limits(STOP, [12 - row])
        search = Sampler(TokenSampling(temperature, top_p=0.9), limits, RowDraws([seeds[row]], "cpu"))
        alone = generate_first_level(model, conditions([one]), search, 12)
        assert torch.equal(alone[0].tokens_N, together[row].tokens_N)
        assert alone[0].finish_reason == together[row].finish_reason


@pytest.mark.slow
@pytest.mark.skipif(" " in torch.__file__, reason="PyTorch gives its folder to the linker unquoted")
def test_a_compiled_step_says_the_same():
    model, given_rows = build(), conditions(example.ar().rows)
    expected = generate_first_level(model, given_rows, sampler(3, range(3), 1.0), 12)
    found = generate_first_level(model, given_rows, sampler(3, range(3), 1.0), 12, run="compiled")
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.tokens_N, other.tokens_N)


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_continuing_goes_on_where_generating_would(trunk):
    model, rows = build(*trunk), example.ar().rows
    whole = generate_first_level(model, conditions(rows), sampler(3, range(3), 0.0), 12)
    known = pad_rows([one.tokens_N[: row + 1] for row, one in enumerate(whole)])
    rest = generate_first_level(model, conditions(rows), sampler(3, range(3), 0.0), 12, *known)
    for row, (one, other) in enumerate(zip(rest, whole, strict=True)):
        size = len(other.tokens_N) - row - 1
        assert size > 0
        assert torch.equal(one.tokens_N[:size], other.tokens_N[row + 1 :])


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_later_codes_are_not_seen(trunk):
    model, inputs = build(*trunk), example.ar().batch(example.ar().rows, Padding())
    before = model(**inputs)
    inputs["codes_BT"][:, 4:] = (inputs["codes_BT"][:, 4:] + 1) % STOP
    after = model(**inputs)
    torch.testing.assert_close(after[:, :5], before[:, :5], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after[:, 5:], before[:, 5:], rtol=1e-3, atol=1e-3)


def test_the_text_has_logits_of_its_own():
    model, inputs = build(), example.ar().batch(example.ar().rows, Padding())
    both, codes = model(**inputs, predicts="text_and_codes"), model(**inputs)
    n_text = inputs["text_BL"].shape[1]
    assert both.shape[1] == n_text + codes.shape[1]
    assert torch.equal(both[:, n_text:], codes)
    inputs["text_BL"][:, -1] = (inputs["text_BL"][:, -1] + 1) % 12
    changed = model(**inputs, predicts="text_and_codes")
    torch.testing.assert_close(changed[:1, : n_text - 1], both[:1, : n_text - 1], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(changed[0, n_text - 1], both[0, n_text - 1])


def second():
    torch.manual_seed(5)
    return ValleNAR(example.nar().config).eval()


@torch.no_grad()
def test_the_other_levels_follow_one_after_another():
    """Each level is what the network says of those below it."""
    model, rows = second(), example.nar().rows
    lengths = [len(row["codes_TQ"]) for row in rows]
    known, mask = pad_rows([row["codes_TQ"][:, :1] for row in rows])
    given_rows = conditions(rows)
    codes = generate_other_levels(
        model, given_rows, known, lengths, TokenSampling(0), RowDraws([0] * 3, "cpu")
    )
    assert codes.shape == (3, max(lengths), 4)
    assert torch.equal(codes[..., :1], known)
    assert not codes[~mask].any()
    for level in (1, 2, 3):
        logits = model(*given_rows.inputs(), codes, mask, torch.full((3,), level))
        assert torch.equal(logits.argmax(-1)[mask], codes[..., level][mask])
    rest = generate_other_levels(
        model, given_rows, codes[..., :2], lengths, TokenSampling(0), RowDraws([0] * 3, "cpu")
    )
    assert torch.equal(rest, codes)


@torch.no_grad()
def test_a_row_of_the_other_levels_does_not_depend_on_its_batch():
    model, rows, sampling = second(), example.nar().rows, TokenSampling(1.0, top_k=5)
    lengths = [len(row["codes_TQ"]) for row in rows]
    known = pad_rows([row["codes_TQ"][:, :1] for row in rows])[0]
    together = generate_other_levels(
        model, conditions(rows), known, lengths, sampling, RowDraws([7, 8, 9], "cpu")
    )
    for row, length in enumerate(lengths):
        alone = generate_other_levels(
            model,
            conditions(rows[row : row + 1]),
            known[row : row + 1, :length],
            [length],
            sampling,
            RowDraws([7 + row], "cpu"),
        )
        assert torch.equal(alone[0], together[row, :length])


def test_penalties_of_repetition_are_refused_where_all_frames_are_drawn_at_once():
    model, rows = second(), example.nar().rows
    with pytest.raises(ValueError, match="have no penalties for repetition"):
        generate_other_levels(
            model, conditions(rows), torch.zeros(3, 4, 1).long(), [4] * 3, TokenSampling(aware_window=3), None
        )
