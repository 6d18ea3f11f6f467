"""The MaskGCT system on the embedded codec with tiny untrained generators."""

import dataclasses
import json
import shutil
from math import ceil

import pytest
import torch

from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.generators import load_generator, save_generator
from models.maskgct.options import PRESETS, MaskGCTOptions
from models.maskgct.s2a import MaskGCTS2A, MaskGCTS2AConfig
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.prompt import Prompt
from models.system import SpeakRequest
from models.system_files import load_system, require, save_system

CODEC = "mill-16khz"
FAST = {"t2s_steps": 4, "s2a_steps": [2, 1], "temperature": 1.0, "filter_threshold": 0.5}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Generator directories of random weights that do depend on time, text and prompt."""
    codec, folder = load_codec(CODEC), tmp_path_factory.mktemp("generators")
    torch.manual_seed(0)
    sizes = (codec.codebook_size, 16, 2, 2, 24)
    modules = {
        "t2s": MaskGCTT2S(MaskGCTT2SConfig(258, *sizes)),
        "s2a": MaskGCTS2A(MaskGCTS2AConfig(258, codec.n_codebooks, *sizes)),
    }
    for name, module in modules.items():
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.3)
        save_generator(module, f"maskgct_{name}", folder / name)
    return {name: folder / name for name in modules}


@pytest.fixture(scope="module")
def directory(parts, tmp_path_factory):
    path = tmp_path_factory.mktemp("system") / "system"
    options = FAST | {"frames_per_token": 2.5}
    save_system(path, "maskgct", codec=CODEC, generators=parts, text={"kind": "bytes"}, options=options)
    return path


@pytest.fixture(scope="module")
def system(directory):
    return load_system(directory)


def voice(seconds=0.5, sample_rate=16000, text="some words", loudness=0.2):
    samples = int(seconds * sample_rate)
    generator = torch.Generator().manual_seed(samples)
    wave = loudness * torch.randn(1, samples, generator=generator).clamp(-4, 4) / 4
    return Prompt(Wave(wave, torch.tensor([samples]), sample_rate), text)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def samples_of(waves):
    return [wave.wave_BT[0].tolist() for wave in waves]


def test_lengths_follow_the_rules(system):
    hop = system.codec.hop_length
    prompt = voice(0.5, 24000, "ten bytes!")
    texts = ["hello", "hello there", "four", "four"]
    waves = system.synthesize(
        texts, [None, prompt, prompt, None], generator=seeded(), target_lengths=[None, None, None, 9]
    )
    prompt_frames = ceil(8000 / hop)
    frames = [int(7 * 2.5), int(prompt_frames / 10 * 11), int(prompt_frames / 10 * 4), 9]
    assert [wave.wave_BT.shape for wave in waves] == [(1, n * hop) for n in frames]
    assert [int(wave.lengths_B) for wave in waves] == [n * hop for n in frames]
    assert all(wave.sample_rate == system.codec.sample_rate for wave in waves)


def test_a_part_of_the_length_does_not_follow_the_text(system):
    """10 frames a sentence are as much as 4 tokens of 2.5, 5 a word as 2 for each word, also of a prompt."""
    hop = system.codec.hop_length
    prompt = voice(0.5, 24000, "ten bytes!")
    parts = {"frames_per_sentence": 10.0, "frames_per_word": 5.0}
    waves = system.synthesize(["hello", "hello there"], [None, prompt], generator=seeded(), **parts)
    frames = [int((7 + 4 + 2) * 2.5), int(ceil(8000 / hop) / (10 + 4 + 4) * (11 + 4 + 4))]
    assert [int(wave.lengths_B) for wave in waves] == [n * hop for n in frames]
    assert all(wave.wave_BT.isfinite().all() for wave in waves)


def test_rows_do_not_depend_on_their_batch(system):
    texts, prompts = ["one", "two and more", "three", "four"], [None, voice(0.3), voice(0.6, 22050), None]
    generators = [seeded(n) for n in range(4)]
    together = system.synthesize(texts, prompts, generator=generators)
    for row, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        (alone,) = system.synthesize([text], [prompt], generator=[seeded(row)])
        torch.testing.assert_close(alone.wave_BT, together[row].wave_BT, rtol=0, atol=1e-4)


def test_one_generator_gives_the_same_however_a_list_is_cut(system):
    whole = system.synthesize(["one", "two", "three"], generator=seeded())
    generator = seeded()
    cut = system.synthesize(["one"], generator=generator) + system.synthesize(
        ["two", "three"], generator=generator
    )
    for first, second in zip(whole, cut, strict=True):
        torch.testing.assert_close(first.wave_BT, second.wave_BT, rtol=0, atol=1e-4)


def test_what_is_given_matters(system):
    def speak(text="one", prompt=None, seed=0, **sampling):
        return samples_of(
            system.synthesize([text], [prompt], generator=seeded(seed), target_lengths=[12], **sampling)
        )

    plain = speak()
    assert speak() == plain
    others = [
        speak(seed=1),
        speak(text="two"),
        speak(prompt=voice(0.3)),
        speak(temperature=0.0),
        speak(guidance=0.0),
        speak(t2s_steps=1),
        speak(no_prompt="pad_frame"),
    ]
    assert plain not in others
    half = speak(speed=2.0)
    assert half == plain, "speed does not touch an explicit length"


def test_speed_divides_the_length(system):
    slow, fast = (
        system.synthesize(["hello"], generator=seeded(), speed=speed)[0].wave_BT.shape[1]
        for speed in (0.5, 2.0)
    )
    assert slow == 35 * system.codec.hop_length
    assert fast == 8 * system.codec.hop_length


@pytest.mark.parametrize(
    ("text", "prompt", "sampling", "message"),
    [
        (" \n", None, {}, "text is empty; there is nothing to speak"),
        ("one", voice(text=" "), {}, "prompt text is empty; it must be what is said in the prompt"),
        ("one", voice(loudness=0.0), {}, "prompt is silent"),
        ("one", voice(0.0), {}, "prompt holds no samples"),
        ("one", voice(31.0), {}, r"prompt is 31.0 s long; the most is 30 s \(max_prompt_s\)"),
        (
            "one",
            voice(2.0),
            {"max_prompt_s": 1.5},
            r"prompt is 2.0 s long; the most is 1.5 s \(max_prompt_s\)",
        ),
        ("one" * 1000, None, {}, r"text 'oneone.{34}\.\.\.' asks for 7505 frames; allowed are 1 to 4096"),
        ("one" * 9, voice(), {"max_text_tokens": 30}, "has 40 tokens with its prompt's; the most is 30"),
        ("one", None, {"frames_per_token": 0.15}, "text 'one' asks for 0 frames; allowed are 1 to 4096"),
        ("one", None, {"frames_per_sentence": -1}, "frames_per_sentence is -1; it must not be negative"),
        ("one", None, {"frames_per_token": 0}, "frames_per_token is 0; it must be above 0"),
        ("one", None, {"step": 3}, "unknown key 'step' in the options of maskgct"),
        ("one", None, {"speed": 0}, "speed is 0; it must be above 0"),
        ("one", None, {"s2a_steps": []}, r"s2a_steps is \[\]; it needs at least one entry, each at least 1"),
        ("one", None, {"no_prompt": "zero"}, "no_prompt is 'zero'; it must be 'none' or 'pad_frame'"),
    ],
)
def test_what_cannot_be_spoken_is_refused(system, text, prompt, sampling, message):
    for refuse in (
        lambda: system.speak(sampling).prepare(SpeakRequest(text, prompt=prompt)),
        lambda: system.synthesize(["fine and long", text], [None, prompt], generator=seeded(), **sampling),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            refuse()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "text", "ratio"),
    [
        ("some words", "two", 3 / 10),
        ("ünï", "two", 3 / 5),
        ("some words", "zwölf fünf", 12 / 10),
        ("日本", "語", 3 / 6),
    ],
)
def test_a_sentence_is_as_much_longer_than_its_prompt_as_it_has_more_bytes(system, prompt, text, ratio):
    """Not characters: the published rule counts UTF-8, of both."""
    frames = system.speak({}).prepare(SpeakRequest(text, prompt=voice(4.0, text=prompt))).sentence.frames
    assert frames == int(200 * ratio)


def test_an_explicit_length_is_checked_instead_of_the_rule(system):
    frame_s = system.codec.hop_length / system.codec.sample_rate
    task = system.speak({})
    assert task.prepare(SpeakRequest("one" * 1000, duration_s=100 * frame_s)).sentence.frames == 100
    with pytest.raises(ValueError, match="asks for 0 frames"):
        task.prepare(SpeakRequest("one", duration_s=0.0))


def test_options_are_complete_and_evaluations_counted(system):
    task = system.speak({"t2s_steps": 3, "s2a_steps": [2, 1]})
    assert task.options["t2s_steps"] == 3
    assert task.options["max_prompt_s"] == 30.0
    (speech,) = task.run([task.prepare(SpeakRequest("one"))], [seeded()])
    # Two branches a step; seven levels follow codebook 0, one step each.
    assert (speech.finish_reason, speech.evaluations) == ("length", 2 * (3 + 7))
    (plain,) = system.synthesize(["one"], generator=seeded(), t2s_steps=3, s2a_steps=[2, 1])
    assert torch.equal(plain.wave_BT, speech.wave.wave_BT)


def test_a_preset_is_a_set_of_options(system):
    best, fast = (system.speak({"preset": name}).options for name in ("best", "fast"))
    own = {name: FAST[name] for name in ("temperature", "filter_threshold")} | {"frames_per_token": 2.5}
    assert best == dataclasses.asdict(MaskGCTOptions(**own)), "the best are the defaults"
    assert fast == best | dict(PRESETS["fast"])
    assert system.speak({"preset": "fast", "t2s_steps": 5}).options == fast | {"t2s_steps": 5}
    with pytest.raises(
        ValueError, match="preset is 'quick' in the options of maskgct; it must be one of best, fast"
    ):
        system.speak({"preset": "quick"})


def test_the_finer_codebooks_have_a_guidance_of_their_own(system):
    """One branch for seven levels of one step each, two in three steps of codebook 0, and the other way round."""
    steps = {"t2s_steps": 3, "s2a_steps": [1]}

    def evaluations(**guidance):
        task = system.speak({**steps, **guidance})
        return task.run([task.prepare(SpeakRequest("one"))], [seeded()])[0].evaluations

    assert evaluations(s2a_guidance=0.0) == 2 * 3 + 7
    assert evaluations(guidance=0.0, s2a_guidance=1.0) == 3 + 2 * 7
    assert evaluations(guidance=0.0) == 3 + 7


def test_a_system_refuses_what_it_cannot(system, directory):
    with pytest.raises(ValueError, match="maskgct cannot convert; it can speak"):
        system.convert({})
    with pytest.raises(ValueError, match="a maskgct system cannot convert; it can speak"):
        require(directory, "convert")
    require(directory, "speak")


def test_generators_are_counted(system):
    with pytest.raises(ValueError, match="1 generators for 2 texts"):
        system.synthesize(["one", "two"], generator=[seeded()])


def test_parts_that_do_not_fit_leave_nothing_behind(parts, tmp_path):
    with pytest.raises(ValueError, match="codebook"):
        save_system(
            tmp_path / "system", "maskgct", codec="pcm-16khz", generators=parts, text={"kind": "bytes"}
        )
    wrong = parts | {"s2a": parts["t2s"]}
    with pytest.raises(ValueError, match="generator s2a is a maskgct_t2s; it must be a maskgct_s2a"):
        save_system(tmp_path / "system", "maskgct", codec=CODEC, generators=wrong, text={"kind": "bytes"})
    with pytest.raises(ValueError, match=r"unknown system family 'vall'; known: .*maskgct"):
        save_system(tmp_path / "system", "vall", codec=CODEC, generators=parts, text={"kind": "bytes"})
    assert not (tmp_path / "system").exists()


def test_another_codec_than_the_one_it_was_made_with_is_refused(parts, tmp_path):
    save_system(tmp_path / "system", "maskgct", codec=CODEC, generators=parts, text={"kind": "bytes"})
    path = tmp_path / "system" / "system.json"
    stored = json.loads(path.read_text())
    stored["codec_identity"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"has weights_sha256 .*; the system was made with 0000"):
        load_system(tmp_path / "system")


def test_a_folder_without_a_system_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is no system directory: it has no system\.json"):
        load_system(tmp_path)


def test_a_description_that_lacks_a_key_is_named(directory, tmp_path):
    stored = json.loads((directory / "system.json").read_text())
    del stored["text"]
    (tmp_path / "system.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match=r"system\.json lacks text"):
        load_system(tmp_path)


@pytest.mark.parametrize(("rows", "fits"), [(256, False), (258, True), (320, True)])
def test_a_text_table_may_be_larger_than_its_front_end(parts, tmp_path, rows, fits):
    codec = load_codec(CODEC)
    t2s = MaskGCTT2S(MaskGCTT2SConfig(rows, codec.codebook_size, 16, 2, 2, 24))
    save_generator(t2s, "maskgct_t2s", tmp_path / "t2s")
    given = parts | {"t2s": tmp_path / "t2s"}

    def save():
        save_system(tmp_path / "system", "maskgct", codec=CODEC, generators=given, text={"kind": "bytes"})

    if fits:
        save()
        assert len(load_system(tmp_path / "system").synthesize(["a"], generator=seeded(), **FAST)) == 1
    else:
        with pytest.raises(
            ValueError, match="t2s has a text table of 256 rows; the text front end needs 258"
        ):
            save()


def changed(directory, tmp_path, **changes):
    """A copy of the system with another `system.json`."""
    copy = shutil.copytree(directory, tmp_path / "copy")
    stored = json.loads((copy / "system.json").read_text())
    (copy / "system.json").write_text(json.dumps(stored | changes))
    return copy


@pytest.mark.parametrize("part", ["../outside", "/etc", "t2s/../../outside"])
def test_parts_lie_inside_the_directory(directory, tmp_path, part):
    (tmp_path / "outside").mkdir()
    copy = changed(directory, tmp_path, generators={"t2s": part, "s2a": "s2a"})
    with pytest.raises(ValueError, match="is not inside the system's directory"):
        load_system(copy)
    shutil.rmtree(copy)
    copy = changed(directory, tmp_path, text={"kind": "huggingface", "source": part})
    with pytest.raises(ValueError, match="is not inside the system's directory"):
        load_system(copy)
    shutil.rmtree(copy)
    copy = changed(directory, tmp_path, codec=part)
    with pytest.raises(ValueError, match="is not inside the system's directory"):
        load_system(copy)


def test_a_hub_is_never_asked_for_a_tokenizer(directory, tmp_path):
    copy = changed(directory, tmp_path, text={"kind": "huggingface", "source": "someone/tokenizer"})
    with pytest.raises(ValueError, match="the part 'someone/tokenizer' is not there"):
        load_system(copy)


def test_a_flipped_bit_is_found(directory, tmp_path):
    copy = changed(directory, tmp_path)
    weights = copy / "s2a" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match=r"s2a/model\.safetensors is damaged"):
        load_system(copy)
    weights.unlink()
    with pytest.raises(ValueError, match=r"s2a/model\.safetensors is missing"):
        load_system(copy)


def test_weights_that_are_not_finite_are_refused(parts, tmp_path):
    name, module = load_generator(parts["t2s"])
    with torch.no_grad():
        next(module.parameters())[0] = torch.nan
    save_generator(module, name, tmp_path / "t2s")
    with pytest.raises(ValueError, match=r"t2s/model\.safetensors: .* is not finite"):
        load_generator(tmp_path / "t2s")


def test_a_truncated_description_is_named(directory, tmp_path):
    copy = changed(directory, tmp_path)
    (copy / "system.json").write_text('{"family": ')
    with pytest.raises(ValueError, match=r"system\.json is not JSON"):
        load_system(copy)


@pytest.mark.parametrize("part", ["t2s/config.json", "s2a/model.safetensors"])
def test_a_flipped_bit_in_any_part_is_refused(directory, tmp_path, part):
    copy = shutil.copytree(directory, tmp_path / "copy")
    content = bytearray((copy / part).read_bytes())
    content[-20] ^= 1
    (copy / part).write_bytes(content)
    with pytest.raises(ValueError, match=f"{part} is damaged: its sha256 is not the one in system.json"):
        load_system(copy)
