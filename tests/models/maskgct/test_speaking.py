"""MaskGCT's task alone, on a codec and a front end that do what they are told."""

import dataclasses

import pytest
import torch

from models.codecs.interface import Wave
from models.manifest import Parts
from models.maskgct.options import MaskGCTOptions
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.system import MaskGCTSystem
from models.maskgct.system import build as made
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.prompt import Prompt
from models.system import SpeakRequest

V, Q, TEXTS, SIZES = 21, 3, 9, (16, 1, 2, 24)
QUICK = {
    "frames_per_token": 2.0,
    "t2s_steps": 3,
    "s2a_steps": (9, 2, 1),
    "temperature": 1.0,
    "filter_threshold": 0.2,
}


class FrontEnd:
    """A token for each letter."""

    vocab_size = TEXTS

    def encode(self, text, language=None, phones=None):
        return [ord(letter) % TEXTS for letter in text]


def random(module, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module


@pytest.fixture
def system(coder):
    def build(t2s_seed=0, s2a_seed=0):
        t2s = random(MaskGCTT2S(MaskGCTT2SConfig(TEXTS, V, *SIZES)), t2s_seed)
        s2a = random(MaskGCTS2A(MaskGCTS2AConfig(TEXTS, Q, V, *SIZES)), s2a_seed)
        networks, codecs = {"t2s": t2s.train(), "s2a": s2a.train()}, {"codec": coder("codec", 1000, 20, Q, V)}
        return made(Parts(networks, codecs, {}, FrontEnd(), QUICK, torch.device("cpu")))

    return build


def voice(frames=8, seed=0):
    wave = torch.rand(1, 20 * frames, generator=torch.Generator().manual_seed(seed))
    return Prompt(Wave(wave, torch.tensor([20 * frames]), 1000), "said")


def spoken(system, requests, seeds=(1, 2, 3), **options):
    """Codes (T, Q) of each row, and the speech."""
    task = system.speak(options)
    speech = task.run(
        [task.prepare(one) for one in requests],
        [torch.Generator().manual_seed(seed) for seed, _ in zip(seeds, requests, strict=False)],
    )
    decoded = system.codec.decoded
    rows = zip(decoded.codes_BQT, decoded.lengths_B.tolist(), strict=True)
    return [codes_QT[:, :frames].T for codes_QT, frames in rows], speech


REQUESTS = [
    SpeakRequest("abc"),
    SpeakRequest("abcdef", prompt=voice()),
    SpeakRequest("a", prompt=voice(8, 5)),
]


def test_rows_have_their_own_lengths_and_do_not_depend_on_their_batch(system):
    codes, speech = spoken(system(), REQUESTS)
    assert [len(one) for one in codes] == [6, 12, 2]
    assert [int(one.wave.lengths_B) for one in speech] == [120, 240, 40]
    for row in range(3):
        (alone,), _ = spoken(system(), REQUESTS[row : row + 1], [row + 1])
        assert torch.equal(alone, codes[row])


def test_the_first_network_makes_codebook_0_and_the_second_the_others(system):
    (plain, *_), _ = spoken(system(), REQUESTS)
    (other, *_), _ = spoken(system(s2a_seed=1), REQUESTS)
    assert torch.equal(other[:, 0], plain[:, 0])
    assert not torch.equal(other[:, 1:], plain[:, 1:])
    (other, *_), _ = spoken(system(t2s_seed=1), REQUESTS)
    assert not torch.equal(other[:, 0], plain[:, 0])


@pytest.mark.parametrize(
    ("option", "first", "finer"),
    [
        ({"temperature": 0.0}, True, True),
        ({"filter_threshold": 0.9}, True, True),
        ({"guidance": 3.0}, True, True),
        ({"s2a_guidance": 3.0}, False, True),
        ({"rescale": 0.0}, True, True),
        ({"t2s_steps": 1}, True, True),
        ({"s2a_steps": (1, 5, 4)}, False, True),
    ],
)
def test_each_setting_reaches_the_stages_that_it_is_for(system, option, first, finer):
    """Rows long enough that a setting shows. Other codes of codebook 0 give others of the finer ones."""
    requests = [SpeakRequest("abcdefghijklmnop", prompt=voice())]
    (plain,), _ = spoken(system(), requests)
    (other,), _ = spoken(system(), requests, **option)
    assert torch.equal(other[:, 0], plain[:, 0]) != first
    assert torch.equal(other[:, 1:], plain[:, 1:]) != finer


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 2 * 3 + 2 * (2 + 1)),
        ({"guidance": 0.0}, 3 + 2 + 1),
        ({"s2a_guidance": 0.0}, 2 * 3 + 2 + 1),
        ({"t2s_steps": 5, "s2a_steps": (1, 4)}, 2 * 5 + 2 * (4 + 4)),
    ],
)
def test_passes_of_both_networks_are_counted(system, options, passes):
    _, speech = spoken(system(), REQUESTS, **options)
    assert {(one.evaluations, one.finish_reason) for one in speech} == {(passes, "length")}


def test_a_voice_is_encoded_once_and_heard(system):
    one = system()
    task, prompt = one.speak({}), voice()
    prepared = [task.prepare(SpeakRequest(text, prompt=prompt)) for text in ("abc", "def", "ghi")]
    assert one.codec.encoded == 0, "preparing runs no network"
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    task.run(prepared, generators)
    task.run(prepared[:1], generators[:1])
    assert one.codec.encoded == 1
    (first,), _ = spoken(one, [SpeakRequest("abc", prompt=prompt, duration_s=0.2)])
    (second,), _ = spoken(one, [SpeakRequest("abc", prompt=voice(seed=9), duration_s=0.2)])
    assert not torch.equal(first, second)


def test_options_are_complete_and_networks_do_not_train(system):
    one = system()
    assert one.options == MaskGCTOptions(**QUICK)
    assert one.speak({"speed": 2.0}).options == dataclasses.asdict(MaskGCTOptions(**QUICK, speed=2.0))
    assert not one.t2s.training
    assert not one.s2a.training


def test_a_network_of_finer_codebooks_that_does_not_fit_is_named(system):
    one = system()
    refused = {
        f"s2a has codebooks of {V + 1}; the codec's have {V}": (TEXTS, Q, V + 1),
        f"s2a has a text table of {TEXTS - 1} rows; the text front end needs {TEXTS}": (TEXTS - 1, Q, V),
        f"s2a has {Q + 1} codebooks; the codec has {Q}": (TEXTS, Q + 1, V),
    }
    for message, wrong in refused.items():
        s2a = MaskGCTS2A(MaskGCTS2AConfig(*wrong, *SIZES))
        with pytest.raises(ValueError, match=f"^{message}$"):
            MaskGCTSystem(one.codec, one.front_end, one.t2s, s2a, MaskGCTOptions())


def test_what_it_does_not_have_is_refused_in_its_name(system):
    message = "^source is given, but maskgct has no speech tasks; it speaks text$"
    with pytest.raises(ValueError, match=message):
        system().speak({}).prepare(SpeakRequest("one", source=voice().wave))
    with pytest.raises(ValueError, match=r"^unknown key 'step' in the options of maskgct; did"):
        system().speak({"step": 3})
