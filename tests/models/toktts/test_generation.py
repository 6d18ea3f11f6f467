"""Decoding with a cache gives what recomputing everything gives; rows depend on nothing but themselves."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.manifest import Padding
from models.sampling.autoregressive import LoopGuard
from models.sampling.beam import Beams
from models.sampling.token_sampling import TokenSampling
from models.toktts import example
from models.toktts.config import TokTTSConfig
from models.toktts.network import TokTTS
from models.toktts.patterns import NEVER
from models.toktts.sampling import Decoding, generate_codes

KINDS = {
    "separate": {},
    "shared": {"code_ids": "shared", "encoder_attention": "causal"},
    "delay": {"pattern": "delay"},
}
DECODINGS = {
    "greedy": Decoding(),
    "drawn": Decoding(TokenSampling(1.0, top_k=6)),
    "published": Decoding(TokenSampling(1.0), ids="any"),
    "beams": Decoding(beams=Beams(3)),
    "drawn beams": Decoding(TokenSampling(1.0), Beams(2)),
    "guided": Decoding(TokenSampling(1.0), guidance=1.5),
    "guided beams": Decoding(beams=Beams(3), guidance=1.5),
}


def build(kind, seed=3):
    torch.manual_seed(seed)
    module = TokTTS(example.toktts(**KINDS[kind]).config).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def texts(rows=None, **padding):
    given = example.toktts()
    inputs = given.batch(rows or given.rows, Padding(**padding))
    return inputs["text_BL"], inputs["text_mask_BL"]


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads", ["used", "all"])
def test_cached_logits_equal_those_of_the_whole_sequence(kind, reads):
    model, given = build(kind), example.toktts(**KINDS[kind])
    inputs = given.batch(given.rows, Padding(2, "left", 5))
    tokens_BSK = inputs["tokens_BSK"]
    memory = model.encode(inputs["text_BL"], inputs["text_mask_BL"])
    cache = model.cache(len(given.rows), tokens_BSK.shape[1], reads)
    found = torch.stack([model.step(tokens_BK, cache, memory) for tokens_BK in tokens_BSK.unbind(1)], dim=1)
    torch.testing.assert_close(found, model(**inputs), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("guidance", [0, 1.5])
def test_greedy_codes_equal_recomputation(kind, guidance):
    model, (text, mask) = build(kind), texts()
    found = generate_codes(model, text, mask, [6] * 3, Decoding(guidance=guidance), [0] * 3)
    pattern = model.pattern
    for row, one in enumerate(found):
        tokens, stopped = [torch.full((pattern.n_streams,), pattern.start)], torch.tensor([NEVER])
        for step in range(pattern.steps(6) + pattern.n_streams - 1):
            given = text[row : row + 1], mask[row : row + 1], torch.stack(tokens)[None]
            logits, textless = (model(*given, said_B=torch.tensor([said]))[0, -1] for said in (True, False))
            logits = logits + guidance * (logits - textless)
            tokens.append(logits.masked_fill(~pattern.allowed(step, stopped)[0], -torch.inf).argmax(-1))
            if tokens[-1][0] == pattern.stop and stopped[0] == NEVER:
                stopped[0] = step
        codes = pattern.read(torch.stack(tokens[1:]))
        assert torch.equal(one.codes_QT, codes[:, :6])
        assert one.codes_QT.shape[1] == 6 or one.finish_reason == "stop"


@torch.no_grad()
@given(st.sampled_from(sorted(KINDS)), st.sampled_from(sorted(DECODINGS)), st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_a_row_does_not_depend_on_its_batch(kind, how, seed):
    decoding = DECODINGS[how]
    if kind == "delay" and decoding.beams:
        return
    model, rows, most = build(kind, seed), example.toktts().rows, [5, 2, 7]
    seeds = [seed, seed + 1, seed + 2]
    together = generate_codes(model, *texts(extra=3, side="left", junk=4), most, decoding, seeds)
    for row, one in enumerate(rows):
        args = (*texts([one]), most[row : row + 1], decoding, seeds[row : row + 1])
        (alone,) = generate_codes(model, *args)
        assert torch.equal(alone.codes_QT, together[row].codes_QT)
        assert alone.finish_reason == together[row].finish_reason
        assert alone.codes_QT.shape[1] <= most[row]
        assert alone.codes_QT.numel() == 0 or int(alone.codes_QT.max()) < model.config.codebook_size


@torch.no_grad()
def test_streams_of_a_row_draw_their_own_numbers():
    """With the same numbers, streams of equal logits would say the same."""
    model = build("delay")
    for parameter in model.parameters():
        parameter.zero_()
    found = generate_codes(model, *texts(), [30] * 3, Decoding(TokenSampling()), [1, 2, 3])
    longest = max(found, key=lambda one: one.codes_QT.shape[1]).codes_QT
    assert longest.shape[1] > 5
    assert len({tuple(codes.tolist()) for codes in longest}) == 3


@torch.no_grad()
def test_a_row_that_repeats_itself_is_called_a_loop():
    """Without weights every frame is the same, and stopping is never the first choice."""
    model = build("separate")
    for parameter in model.parameters():
        parameter.zero_()
    decoding = Decoding(guard=LoopGuard(9, max_period=3))
    for one in generate_codes(model, *texts(), [18] * 3, decoding, [0] * 3):
        assert (one.finish_reason, one.codes_QT.tolist()) == ("loop", [[0]] * 3)
        assert one.evaluations == 12


@torch.no_grad()
@pytest.mark.parametrize("attention", ["bidirectional", "causal"])
def test_a_letter_sees_later_ones_unless_the_encoder_is_causal(attention):
    torch.manual_seed(0)
    model = TokTTS(example.toktts(encoder_attention=attention).config).eval()
    text, mask = texts(example.toktts().rows[:1])
    before = model.encode(text, mask).encoded_BLD
    text[0, -1] = (text[0, -1] + 1) % 12
    after = model.encode(text, mask).encoded_BLD
    same = torch.allclose(after[:, :-1], before[:, :-1], rtol=1e-5, atol=1e-6)
    assert same == (attention == "causal")


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_has_no_influence(kind):
    model, given = build(kind), example.toktts(**KINDS[kind])
    inputs = given.batch(given.rows, Padding())
    tokens, text = inputs["tokens_BSK"], inputs["text_BL"]
    seen, said = torch.rand(tokens.shape) < 0.5, torch.tensor([True, False, True])
    before = model(**inputs, seen_BSK=seen, said_B=said)
    others = {
        "tokens_BSK": torch.where(seen, tokens, (tokens + 1) % 5),
        "text_BL": torch.where(said[:, None], text, (text + 1) % 12),
    }
    torch.testing.assert_close(model(**(inputs | others), seen_BSK=seen, said_B=said), before)
    for name, changed in others.items():
        assert not torch.allclose(model(**(inputs | {name: changed})), model(**inputs))


@torch.no_grad()
def test_later_tokens_are_not_seen():
    model, inputs = build("separate"), example.toktts().batch(example.toktts().rows, Padding())
    before = model(**inputs)
    inputs["tokens_BSK"][:, 4:] = (inputs["tokens_BSK"][:, 4:] + 1) % 9
    after = model(**inputs)
    torch.testing.assert_close(after[:, :4], before[:, :4], rtol=1e-5, atol=1e-6)
    assert not torch.allclose(after[:, 4:], before[:, 4:], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: generate_codes(m, *texts(), [30] * 3, Decoding(), [0] * 3), "90 steps; the most is 64"),
        (
            lambda m: generate_codes(m, *texts(extra=10), [3] * 3, Decoding(), [0] * 3),
            "the text has 17 tokens; the most is 16",
        ),
        (
            lambda m: generate_codes(build("delay"), *texts(), [3] * 3, Decoding(beams=Beams(2)), [0] * 3),
            "beam search needs one stream of tokens; the pattern 'delay' has 3",
        ),
        (
            lambda m: TokTTSConfig(encoder_size=10),
            "encoder_size is 10 with encoder_heads 8; it must be a multiple",
        ),
        (
            lambda m: TokTTSConfig(pattern="parallel"),
            "pattern is 'parallel'; it must be one of interleave, delay",
        ),
        (lambda m: TokTTSConfig(decoder_layers=0), "decoder_layers is 0; it must be a positive integer"),
        (lambda m: TokTTSConfig(dropout=1.5), r"dropout is 1.5; it must be in \[0, 1\)"),
    ],
)
def test_what_cannot_work_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(build("separate"))
