"""The VALL-E system on the embedded codec with tiny untrained networks."""

import pytest
import torch

from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.generators import load_generator, save_generator
from models.prompt import Prompt
from models.system import SpeakRequest
from models.system_files import load_system, save_system
from models.valle.ar import ValleAR
from models.valle.config import ValleARConfig, ValleNARConfig
from models.valle.growth import grown
from models.valle.nar import ValleNAR
from models.valle.options import ValleOptions
from models.valle.system import ValleSystem

CODEC = "mill-16khz"
HOP = 320


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Generator directories of random weights; the first network stops after a few dozen tokens."""
    codec, folder = load_codec(CODEC), tmp_path_factory.mktemp("generators")
    torch.manual_seed(0)
    sizes = {"codebook_size": codec.codebook_size, "hidden_size": 16, "n_layers": 2, "n_heads": 2}
    modules = {
        "ar": ValleAR(ValleARConfig(258, **sizes, prompt_levels=4)),
        "nar": ValleNAR(ValleNARConfig(258, **sizes, n_codebooks=codec.n_codebooks)),
    }
    modules["ar"].head.bias.data[-1] = 4.0
    for role, module in modules.items():
        save_generator(module, f"valle_{role}", folder / role)
    return {role: folder / role for role in modules}


@pytest.fixture(scope="module")
def system(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("system") / "system"
    options = {"ar_temp": 1.0, "max_ar_steps": 60}
    save_system(path, "valle", codec=CODEC, generators=parts, text={"kind": "bytes"}, options=options)
    return load_system(path)


def voice(seconds=0.5, text="some words", language=None):
    samples = int(seconds * 16000)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(samples))
    return Prompt(Wave(0.05 * noise.clamp(-4, 4), torch.tensor([samples]), 16000), text, language)


def run(system, requests, seeds=None, **options):
    task = system.speak(options)
    prepared = [task.prepare(request) for request in requests]
    seeds = range(len(requests)) if seeds is None else seeds
    return task.run(prepared, [torch.Generator().manual_seed(seed) for seed in seeds])


REQUESTS = [
    SpeakRequest("one"),
    SpeakRequest("two and more", prompt=voice(0.3)),
    SpeakRequest("three", prompt=voice(0.8), duration_s=0.1),
    SpeakRequest("four"),
]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"prompt_use": "continue"},
        {"top_k": 50, "top_p": 0.9, "repetition_penalty": 1.2, "aware_window": 10},
        {"beams": 3},
        {"beams": 2, "ar_temp": 0.0},
    ],
)
def test_rows_do_not_depend_on_their_batch(system, options):
    together = run(system, REQUESTS, **options)
    for row, request in enumerate(REQUESTS):
        (alone,) = run(system, [request], [row], **options)
        assert alone.finish_reason == together[row].finish_reason
        assert alone.wave.wave_BT.shape == together[row].wave.wave_BT.shape
        torch.testing.assert_close(alone.wave.wave_BT, together[row].wave.wave_BT, rtol=0, atol=1e-4)


def test_a_row_says_why_it_ends(system):
    """By its stop token, at the wanted length, at the maximum, or because it repeats itself."""
    free = run(system, REQUESTS * 4, range(16))
    reasons = [one.finish_reason for one in free]
    assert {"stop", "length"} == set(reasons)
    for speech, request in zip(free, REQUESTS * 4, strict=True):
        frames = int(speech.wave.lengths_B) // HOP
        most = 5 if request.duration_s else 60
        assert frames <= most
        assert (frames == most) or speech.finish_reason == "stop"
        assert speech.wave.wave_BT.isfinite().all()


def test_a_row_that_repeats_itself_is_cut(system):
    ar = ValleAR(system.ar.config)
    ar.load_state_dict(system.ar.state_dict())
    ar.head.bias.data[7] = 1e4
    stuck = ValleSystem(system.codec, system.front_end, ar, system.nar, ValleOptions(loop_guard_s=1.5))
    (speech,) = run(stuck, [SpeakRequest("one")])
    assert (speech.finish_reason, int(speech.wave.lengths_B)) == ("loop", HOP)
    assert speech.evaluations == 76 + 7


def test_passes_through_the_networks_are_counted(system):
    (speech,) = run(system, [SpeakRequest("one", duration_s=0.2)], ar_temp=5.0)
    frames = int(speech.wave.lengths_B) // HOP
    # A token each, the stop token if there was one, and seven levels.
    assert speech.evaluations == frames + (speech.finish_reason == "stop") + 7


def test_the_prompt_changes_the_speech(system):
    first, second, none = (
        run(system, [SpeakRequest("one", prompt=prompt)], [0])[0].wave.wave_BT
        for prompt in (voice(0.3), voice(0.4), None)
    )
    assert not torch.equal(first, second)
    assert not torch.equal(first, none)


def test_the_maximum_follows_from_the_text(system):
    task = system.speak({"frames_per_token": 0.5, "max_length_ratio": 3.0})
    assert task.prepare(SpeakRequest("four")).max_frames == 9  # two more tokens: begin and end
    assert task.prepare(SpeakRequest("four" * 90)).max_frames == 60
    assert task.prepare(SpeakRequest("four", duration_s=1.0)).max_frames == 50


def test_the_first_level_alone_can_be_heard(parts, tmp_path):
    """A codec of one level needs no second network."""
    save_system(
        tmp_path / "system", "valle", codec=CODEC, generators={"ar": parts["ar"]}, text={"kind": "bytes"}
    )
    (speech,) = run(load_system(tmp_path / "system"), [SpeakRequest("one")], max_ar_steps=5)
    assert speech.wave.wave_BT.isfinite().all()
    assert speech.evaluations <= 5


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        (SpeakRequest(" "), {}, "text is empty; there is nothing to speak"),
        (
            SpeakRequest("a" * 20),
            {"max_text_tokens": 9},
            r"text 'a+' has 22 tokens; the most is 9 \(max_text",
        ),
        (
            SpeakRequest("a"),
            {"prompts": "required"},
            "there is no prompt; a recording of the voice is required",
        ),
        (
            SpeakRequest("a", prompt=voice(20)),
            {},
            r"prompt is 20.0 s long; the most is 15 s \(max_prompt_s\)",
        ),
        (
            SpeakRequest("a", prompt=voice(text=None)),
            {"prompt_use": "continue"},
            "prompt text is empty; it must be what is said in the prompt",
        ),
        (
            SpeakRequest("a", "de", prompt=voice(language="en")),
            {"prompt_use": "continue"},
            "the prompt is in 'en' and the text in 'de'; only a prompt of the same language can be continued",
        ),
        (SpeakRequest("a", duration_s=9.0), {}, "duration_s is 9, which is 450 frames; allowed are 1 to 60"),
        (SpeakRequest("a", phones=("a",)), {}, "the text front end bytes reads no phones"),
        (
            SpeakRequest("a"),
            {"ar_tmp": 1.0},
            "unknown key 'ar_tmp' in the options of valle; did you mean 'ar_temp'",
        ),
        (SpeakRequest("a"), {"ar_temp": -1.0}, "ar_temp is -1.0; it must not be negative"),
        (
            SpeakRequest("a"),
            {"prompt_use": "both"},
            "prompt_use is 'both'; it must be one of voice, continue",
        ),
        (
            SpeakRequest("a"),
            {"beams": 2, "aware_window": 5},
            "beams is above 1; a beam search has no penalties",
        ),
    ],
)
def test_refusals_are_one_line(system, request_, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        system.speak(options).prepare(request_)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def tasked(parts, tmp_path_factory):
    """The same with rows for task tokens."""
    folder = tmp_path_factory.mktemp("tasked")
    for role, part in parts.items():
        save_generator(grown(load_generator(part)[1], n_task_tokens=7), f"valle_{role}", folder / role)
    generators = {role: folder / role for role in parts}
    save_system(folder / "system", "valle", codec=CODEC, generators=generators, text={"kind": "bytes"})
    return load_system(folder / "system")


@pytest.mark.parametrize("task", ["ns", "tse", "cse"])
def test_rows_of_tasks_do_not_depend_on_their_batch(tasked, task):
    requests = [
        SpeakRequest(
            "a" if task == "cse" else "",
            prompt=voice(0.3) if task == "tse" else None,
            source=voice(seconds).wave,
            edit_s=(0.1, 0.3) if task == "cse" else None,
        )
        for seconds in (0.5, 0.8)
    ]
    together = run(tasked, requests, task=task, max_ar_steps=60)
    for row, request in enumerate(requests):
        (alone,) = run(tasked, [request], [row], task=task, max_ar_steps=60)
        torch.testing.assert_close(alone.wave.wave_BT, together[row].wave.wave_BT, rtol=0, atol=1e-4)


def test_an_edit_hears_nothing_of_the_part(tasked):
    """Whatever the part holds, the result is the same; what stands around it is heard."""
    task = tasked.speak({"task": "cse", "max_ar_steps": 60})
    wave = voice(0.6).wave
    results = []
    for first, last in ((0, 0), (3200, 6400), (0, 3200)):
        changed = wave.wave_BT.clone()
        changed[:, first:last] = 0.3
        source = Wave(changed, wave.lengths_B, wave.sample_rate)
        prepared = task.prepare(SpeakRequest("a", source=source, edit_s=(0.2, 0.4)))
        assert prepared.max_frames == 60
        results.append(prepared.source.prompt("cse", tasked.codec))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("request_", "options", "message"),
    [
        (
            SpeakRequest("a", source=voice().wave),
            {},
            "a source is given, but the task is tts; tasks with one: ns",
        ),
        (SpeakRequest(""), {"task": "ns"}, "task ns needs a source: the recording that it works on"),
        (
            SpeakRequest("", source=voice().wave, prompt=voice()),
            {"task": "ns"},
            "task ns has no voice prompt",
        ),
        (SpeakRequest("", source=voice().wave), {"task": "svc"}, "task svc needs a voice prompt"),
        (SpeakRequest("a", source=voice().wave), {"task": "cse"}, "task cse needs a part to edit"),
        (
            SpeakRequest("", source=voice().wave, edit_s=(0.1, 0.2)),
            {"task": "cse"},
            "text is empty; there is nothing to speak",
        ),
        (
            SpeakRequest("a", source=voice().wave, edit_s=(0.3, 0.9)),
            {"task": "cse"},
            r"edit_s is \[0.3, 0.9\]; it must be two times within the source, which has 0.50 s",
        ),
        (SpeakRequest("", source=voice(0.8).wave), {"task": "ns", "max_ar_steps": 9}, "source has 40 frames"),
        (SpeakRequest("", source=voice(20).wave), {"task": "ns"}, "source is 20.0 s long; the most is 15 s"),
        (SpeakRequest(""), {"task": "sing"}, "task is 'sing'; it must be one of tts, ns, sr"),
        (SpeakRequest(""), {"task": "ns", "prompt_use": "continue"}, "a task's prompt is no beginning"),
    ],
)
def test_refusals_of_tasks_are_one_line(tasked, request_, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        tasked.speak(options).prepare(request_)
    assert "\n" not in str(caught.value)


def test_networks_without_task_tokens_do_no_tasks(system, tasked):
    with pytest.raises(ValueError, match="the task token 'ns' is number 1; the network has 0"):
        system.speak({"task": "ns"})
    with pytest.raises(ValueError, match="valle cannot convert; it can speak"):
        system.convert({})
    assert tasked.capabilities == {"speak", "convert"}


def test_a_prompt_needs_no_words(system):
    assert system.speak({}).prepare(SpeakRequest("a", prompt=voice(text=None)))


def test_parts_that_do_not_fit_are_refused(parts, tmp_path):
    save_generator(
        ValleAR(ValleARConfig(100, hidden_size=16, n_layers=1, n_heads=2)), "valle_ar", tmp_path / "ar"
    )
    with pytest.raises(ValueError, match="ar has a text table of 100 rows; the text front end needs 258"):
        save_system(
            tmp_path / "a", "valle", codec=CODEC, generators={"ar": tmp_path / "ar"}, text={"kind": "bytes"}
        )
    nar = ValleNAR(ValleNARConfig(258, hidden_size=16, n_layers=1, n_heads=2, n_codebooks=9))
    save_generator(nar, "valle_nar", tmp_path / "nar")
    generators = {"ar": parts["ar"], "nar": tmp_path / "nar"}
    with pytest.raises(ValueError, match="nar has 9 codebooks; the codec has 8"):
        save_system(tmp_path / "b", "valle", codec=CODEC, generators=generators, text={"kind": "bytes"})
