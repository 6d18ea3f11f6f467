"""The speech stage alone, and the system that holds it, between a tokenizer and a codec that do what they are told."""

import dataclasses

import pytest
import torch

from models.content import Content, Voice
from models.manifest import Parts
from models.maskgct.options import SEMANTIC_PRESETS, SemanticS2AOptions
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.semantic_stages import SpeechStage
from models.maskgct.semantic_system import build
from models.sampling.draws import RowDraws

S, V, Q = 11, 13, 3
QUICK = {"first_steps": 2, "s2a_steps": (1, 2, 1)}


def network(levels, first_level=0, seed=0, codes=V, tokens=S):
    module = MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(tokens, levels, codes, 16, 1, 2, 24, first_level))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module


@pytest.fixture
def stage(coder):
    def build(first=None, full=None, missing=0, tokenizer_rate=1000, **options):
        full = full or network(Q, 1 if first is not None else 0)
        codec, tokenizer = coder("codec", 1000, 20, Q, V), coder("tokens", tokenizer_rate, 20, 1, S, missing)
        return SpeechStage(first, full, Content(codec, tokenizer), SemanticS2AOptions(**(QUICK | options)))

    return build


def tokens(n, seed=0):
    return torch.randint(0, S, (n,), generator=torch.Generator().manual_seed(seed))


def voice(n, seed=7):
    codes = torch.randint(0, V, (n, Q), generator=torch.Generator().manual_seed(seed))
    return Voice(tokens(n, seed), codes)


def made(one, rows, voices, seeds):
    found, lengths_B = one.generate(rows, voices, RowDraws(seeds, "cpu"))
    return [codes[:n] for codes, n in zip(found.codes_BTQ, lengths_B.tolist(), strict=True)]


@pytest.mark.parametrize(
    ("missing", "samples", "expected"),
    [
        (0, 100, [20, 20, 10, 0, 7]),
        (1, 100, [20, 20, 10, 0, 0]),
        (2, 100, [20, 20, 10, 10, 10]),
        (0, 81, [20, 20, 10, 0, 0]),
        (1, 81, [20, 20, 10, 0, 0]),
    ],
)
def test_content_is_as_long_as_the_recording(stage, missing, samples, expected):
    """The tokens that a tokenizer leaves out at the end are its last one again."""
    wave_T = torch.zeros(100)
    wave_T[:50], wave_T[90:97] = 0.7, 0.7
    assert stage(missing=missing).content(wave_T[:samples]).tolist() == expected


def test_content_has_the_frames_of_its_own_rate(stage):
    """A tokenizer of half the rate has half as many frames; the last one may not be full."""
    assert len(stage(tokenizer_rate=500).content(torch.zeros(100))) == 3
    assert len(stage(tokenizer_rate=500, missing=1).content(torch.zeros(100))) == 3
    assert len(stage(tokenizer_rate=500, missing=1).content(torch.zeros(121))) == 4


def test_a_voice_is_all_its_codes(stage):
    wave_T = torch.zeros(60)
    wave_T[20:30] = 0.7
    found = stage().voice(wave_T)
    assert found.content_S.tolist() == [0, 10, 0]
    assert found.frames_PX.tolist() == [[0] * Q, [10] * Q, [0] * Q]


@pytest.mark.parametrize(
    ("voice_s", "used"), [(0.0, 9), (0.08, 4), (0.0849, 4), (0.0851, 4), (0.091, 5), (0.12, 6), (9.0, 6)]
)
def test_so_much_of_a_voice_is_used(stage, voice_s, used):
    """50 frames a second, and no more frames than are made, 6 here; 0 is all."""
    rows, heard = [tokens(6)], voice(9)
    shorter = Voice(heard.content_S[:used], heard.frames_PX[:used])
    found = made(stage(voice_s=voice_s), rows, [heard], [1])
    assert torch.equal(found[0], made(stage(), rows, [shorter], [1])[0])
    other = Voice(heard.content_S[: used - 1], heard.frames_PX[: used - 1])
    assert not torch.equal(found[0], made(stage(), rows, [other], [1])[0])


@pytest.mark.parametrize("two", [False, True])
def test_rows_do_not_depend_on_their_batch(stage, two):
    """Voices of different lengths and none; `first` makes the first level where there is one."""
    one = stage(network(1, seed=3) if two else None)
    rows, voices = [tokens(4), tokens(9, 1), tokens(6, 2)], [voice(3), None, voice(8, 8)]
    together = made(one, rows, voices, [1, 2, 3])
    assert [codes.shape for codes in together] == [(4, Q), (9, Q), (6, Q)]
    for row in range(3):
        (alone,) = made(one, rows[row : row + 1], voices[row : row + 1], [row + 1])
        assert torch.equal(alone, together[row])


def test_the_first_network_makes_the_first_level_with_settings_of_its_own(stage):
    rows, voices = [tokens(8)], [voice(5)]

    def codes(first_seed=3, full_seed=4, **options):
        one = stage(network(1, seed=first_seed), network(Q, 1, seed=full_seed), **options)
        return made(one, rows, voices, [1])[0]

    plain = codes()
    assert torch.equal(codes(full_seed=5)[:, 0], plain[:, 0])
    assert not torch.equal(codes(full_seed=5)[:, 1:], plain[:, 1:])
    assert not torch.equal(codes(first_seed=5)[:, 0], plain[:, 0])
    assert torch.equal(codes(guidance=0.0)[:, 0], plain[:, 0])
    assert not torch.equal(codes(first_guidance=0.0)[:, 0], plain[:, 0])


@pytest.mark.parametrize(
    ("options", "two", "expected"),
    [
        ({}, False, 2 * (1 + 2 + 1)),
        ({}, True, 2 * (2 + 2 + 1)),
        ({"guidance": 0.0}, True, 2 * 2 + 2 + 1),
        ({"first_guidance": 0.0}, True, 2 + 2 * (2 + 1)),
        ({"first_steps": 5}, True, 2 * (5 + 2 + 1)),
        ({"s2a_steps": (4,)}, False, 2 * (4 + 4 + 4)),
    ],
)
def test_passes_of_both_networks_are_counted(stage, options, two, expected):
    one = stage(network(1) if two else None, **options)
    codec = one.codec
    wave, evaluations = one.run([tokens(4), tokens(6)], [None, voice(3)], RowDraws([1, 2], "cpu"))
    assert evaluations == expected
    assert codec.decoded.lengths_B.tolist() == [4, 6]
    assert codec.decoded.codes_BQT.shape == (2, Q, 6)
    assert wave.lengths_B.tolist() == [80, 120]


def test_networks_are_switched_to_evaluation(stage):
    first, full = network(1).train(), network(Q, 1).train()
    stage(first, full)
    assert not first.training
    assert not full.training


def test_parts_that_do_not_fit_are_named(stage, coder):
    whole = network(Q)
    refused = {
        "s2a makes 2 codebooks; codec has 3": (None, network(2)),
        "s2a makes codebooks from 1 on; codebook 0 needs a network in the role 's2a_first'": (
            None,
            network(Q, 1),
        ),
        "s2a_first makes 3 codebooks; it must make one": (whole, network(Q, 1)),
        "s2a has codebooks of 12; codec has 13": (None, network(Q, codes=12)),
        "s2a_first has codebooks of 12; codec has 13": (network(1, codes=12), network(Q, 1)),
        "s2a reads 10 semantic tokens; tokens@1 has 11": (None, network(Q, tokens=10)),
        "s2a_first reads 10 semantic tokens; tokens@1 has 11": (network(1, tokens=10), network(Q, 1)),
    }
    for message, (first, full) in refused.items():
        with pytest.raises(ValueError, match=f"^{message}$"):
            stage(first, full)
    message = "^maskgct_semantic reads semantic tokens; it needs a tokenizer in the role 'semantic'$"
    with pytest.raises(ValueError, match=message):
        SpeechStage(None, whole, Content(coder("codec", 1000, 20, Q, V)), SemanticS2AOptions())


def parts(coder, generators, text_stages=None, **options):
    codecs = {"codec": coder("codec", 1000, 20, Q, V), "semantic": coder("tokens", 1000, 20, 1, S)}
    return Parts(generators, codecs, text_stages or {}, None, options, torch.device("cpu"))


def test_a_system_of_one_or_two_networks_converts(coder):
    for generators, passes in (
        ({"s2a": network(Q)}, 2 * (1 + 2 + 1)),
        ({"s2a": network(Q, 1), "s2a_first": network(1)}, 2 * (2 + 2 + 1)),
    ):
        given = parts(coder, generators, **QUICK)
        system = build(given)
        assert (system.name, system.codec) == ("maskgct_semantic", given.codec)
        assert system.capabilities == {"convert"}
        wave, evaluations = system._speech(QUICK).run([tokens(4)], [voice(3)], RowDraws([1], "cpu"))
        assert (int(wave.lengths_B), evaluations) == (80, passes)


def test_a_systems_own_options_hold_where_no_others_are_given(coder):
    system = build(parts(coder, {"s2a": network(Q)}, **QUICK))
    own = dataclasses.asdict(SemanticS2AOptions(**QUICK))
    assert system.convert({}).options == own
    assert system.convert({"temperature": 0.5}).options == own | {"temperature": 0.5}
    fast = {key: value for key, value in SEMANTIC_PRESETS["fast"].items() if key != "text"}
    assert system.convert({"preset": "fast"}).options == own | fast
    message = "^unknown key 'first_step' in the options of maskgct_semantic; did you mean 'first_steps'"
    with pytest.raises(ValueError, match=message):
        system.convert({"first_step": 1})


class Text:
    """A text stage that writes what is wanted of it."""

    def __init__(self, wanted, options):
        self.writes, self.options = wanted, options


def test_with_a_text_stage_it_speaks(coder):
    system = build(parts(coder, {"s2a": network(Q)}, {"t2s": Text}, **QUICK))
    assert system.capabilities == {"convert", "speak"}
    assert system.speak({"text": {"speed": 2.0}}).options["text"] == {"speed": 2.0}
    assert system.speak({"preset": "fast"}).options["text"] == SEMANTIC_PRESETS["fast"]["text"]
