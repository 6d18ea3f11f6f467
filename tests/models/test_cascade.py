"""Cascades of stages whose right output is obvious: tokens are counted up by the text, the speech repeats them."""

from dataclasses import dataclass, replace

import pytest
import torch

from models.cascade import Cascade, Made
from models.codecs.interface import Wave
from models.codecs.pcm import PcmCodec
from models.identity import TokenIdentity
from models.prompt import Prompt
from models.system import ConvertRequest, SpeakRequest

WORDS = TokenIdentity("words", "1", "", 16000, 160, 1, 100)


@dataclass(frozen=True)
class Text:
    """Writes as many 7s as the text has letters."""

    writes: TokenIdentity
    options: dict

    def prepare(self, request):
        if not request.text:
            raise ValueError("text is empty")
        return len(request.text)

    def run(self, planned, prompts, draws):
        assert all(prompt is None or prompt.tolist() == [3] * len(prompt) for prompt in prompts)
        return Made([torch.full((length,), 7) for length in planned], 5)


class Speech:
    """Says each token for one frame of 160 samples, as loud as the voice."""

    reads, sample_rate, device = WORDS, 16000, torch.device("cpu")
    max_prompt_s, max_source_s = 2.0, 4.0
    encoded = 0

    def __init__(self, options):
        if set(options) - {"steps"}:
            raise ValueError(f"unknown option {sorted(options)}")
        self.options = {"steps": 4, **options}

    def content(self, wave_T):
        return torch.full((-(-len(wave_T) // 160),), 3)

    def voice(self, wave_T):
        type(self).encoded += 1
        return wave_T

    def content_of(self, voice):
        return self.content(voice)

    def run(self, tokens, voices, draws):
        lengths = torch.tensor([160 * len(row) for row in tokens])
        wave = torch.zeros(len(tokens), int(lengths.max()))
        for at, (row, voice) in enumerate(zip(tokens, voices, strict=True)):
            loudness = 1.0 if voice is None else float(voice.abs().max())
            wave[at, : 160 * len(row)] = row.repeat_interleave(160) / 10 * loudness
        return Wave(wave, lengths, 16000), self.options["steps"]


def text_stage(wanted, options):
    return Text(wanted, {"speed": 1.0, **options})


def system(text=text_stage, options=None, presets=None):
    return Cascade("fake", PcmCodec("pcm-16khz"), Speech, text, options, presets)


def recording(loudness=0.5, samples=3200, sample_rate=16000):
    return Wave(torch.full((1, samples), loudness), torch.tensor([samples]), sample_rate)


def generators(count):
    return [torch.Generator().manual_seed(row) for row in range(count)]


def test_text_goes_through_both_stages():
    task = system().speak({})
    requests = [SpeakRequest("abc"), SpeakRequest("abcd", prompt=Prompt(recording(), "x"))]
    plain, prompted = task.run([task.prepare(one) for one in requests], generators(2))
    assert plain.wave.wave_BT.shape == (1, 3 * 160)
    assert plain.wave.wave_BT.unique().tolist() == pytest.approx([0.7])
    assert prompted.wave.wave_BT.shape == (1, 4 * 160)
    assert prompted.wave.wave_BT.unique().tolist() == pytest.approx([0.35])
    assert (plain.evaluations, plain.finish_reason) == (9, "length")


def test_conversion_takes_content_from_the_source_and_loudness_from_the_reference():
    cascade = system(text=None)
    assert cascade.capabilities == {"convert"}
    task = cascade.convert({})
    reference = Prompt(recording(0.2))
    requests = [
        ConvertRequest(recording(0.9, 1600), reference),
        ConvertRequest(recording(0.9, 4950, 48000), reference),
    ]
    before = Speech.encoded
    found = task.run([task.prepare(one) for one in requests], generators(2))
    assert [speech.wave.wave_BT.shape[1] for speech in found] == [1600, 1650]
    assert found[0].wave.wave_BT.unique().tolist() == pytest.approx([0.06])
    assert Speech.encoded == before + 1, "one reference is encoded once"


def test_options_of_the_text_stage_stand_under_text():
    task = system(options={"steps": 2, "text": {"speed": 2.0}}).speak({"text": {"pause": 1}})
    assert task.options == {"steps": 2, "text": {"speed": 2.0, "pause": 1}}
    with pytest.raises(ValueError, match="unknown option"):
        system().speak({"stepps": 2})
    with pytest.raises(ValueError, match="the option 'text' of fake must hold the options of its text stage"):
        system().speak({"text": 3})
    with pytest.raises(ValueError, match="fake has no text stage"):
        system(text=None).convert({"text": {"speed": 2.0}})


def test_a_preset_is_a_set_of_options_of_both_stages():
    presets = {"best": {"steps": 4}, "fast": {"steps": 1, "text": {"speed": 3.0}}}
    own = system(options={"steps": 9, "text": {"speed": 2.0, "pause": 1}}, presets=presets)
    assert own.speak({"preset": "fast"}).options == {"steps": 1, "text": {"speed": 3.0, "pause": 1}}
    single = own.speak({"preset": "fast", "steps": 2, "text": {"speed": 5.0}})
    assert single.options == {"steps": 2, "text": {"speed": 5.0, "pause": 1}}
    fast = system(options={"preset": "fast"}, presets=presets)
    assert fast.speak({}).options == {"steps": 1, "text": {"speed": 3.0}}
    assert fast.speak({"preset": "best"}).options == {"steps": 4, "text": {"speed": 1.0}}
    assert system(text=None, presets=presets).convert({"preset": "fast"}).options == {"steps": 1}
    with pytest.raises(
        ValueError, match="preset is 'quick' in the options of fake; it must be one of best, fast"
    ):
        own.convert({"preset": "quick"})
    with pytest.raises(ValueError, match=r"unknown option \['preset'\]"):
        system().convert({"preset": "fast"})


def test_without_a_text_stage_it_cannot_speak():
    with pytest.raises(ValueError, match="fake cannot speak; it can convert"):
        system(text=None).speak({})


def test_stages_that_do_not_fit_are_refused_when_built():
    def other(wanted, options):
        return Text(replace(wanted, name="letters"), {})

    with pytest.raises(
        ValueError, match="writes tokens of letters@1, the speech stage of fake reads those of words@1"
    ):
        system(other)


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        (recording(0.0), recording(), "source is silent"),
        (recording(samples=100), recording(), "source is 0.006 s long; the least is 0.1 s"),
        (recording(samples=72000), recording(), r"source is 4.5 s long; the most is 4 s \(max_source_s\)"),
        (recording(), recording(0.0), "reference is silent"),
        (recording(), recording(samples=160), "reference is 0.010 s long; the least is 0.1 s"),
        (recording(), recording(samples=48000), "reference is 3.0 s long; the most is 2 s"),
        (recording(float("nan")), recording(), "source holds no samples, or samples that are not finite"),
    ],
)
def test_recordings_that_cannot_be_used_are_refused(source, reference, message):
    with pytest.raises(ValueError, match=message):
        system().convert({}).prepare(ConvertRequest(source, Prompt(reference)))
