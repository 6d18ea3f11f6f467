"""MaskGCT with semantic tokens as a system: it speaks, converts and refuses, and rows stand alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from models.codecs.interface import Wave
from models.generators import save_generator
from models.maskgct.options import SemanticS2AOptions
from models.maskgct.semantic_s2a import MaskGCTSemanticS2A, MaskGCTSemanticS2AConfig
from models.maskgct.t2s import MaskGCTSemanticT2SConfig, MaskGCTT2S
from models.prompt import Prompt
from models.system import ConvertRequest, SpeakRequest, System
from models.system_files import load_system, save_system

GENERATORS = ("t2s", "s2a_first", "s2a")
QUICK = {"first_steps": 2, "s2a_steps": (2, 2, 1)}


def save(
    parts: dict[str, str], directory: Path, generators: tuple[str, ...] = GENERATORS, **changes: Any
) -> Path:
    given: dict[str, Any] = {
        "codec": parts["codec"],
        "generators": {role: Path(parts[role]) for role in generators},
        "text": {"kind": "phonemes"} if "t2s" in generators else None,
        "options": QUICK | ({"text": {"t2s_steps": 2}} if "t2s" in generators else {}),
        "codecs": {"semantic": parts["semantic"]},
    }
    save_system(directory, "maskgct_semantic", **(given | changes))
    return directory


@pytest.fixture(scope="module")
def system(maskgct_parts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> System:
    return load_system(save(maskgct_parts, tmp_path_factory.mktemp("system") / "system"))


def recording(seconds: float = 0.5, seed: int = 0, sample_rate: int = 16000) -> Wave:
    samples = round(seconds * sample_rate)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4)
    return Wave(0.05 * noise, torch.tensor([samples]), sample_rate)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def phones(text: str) -> tuple[str, ...]:
    return tuple(text)


def test_it_speaks_given_phones_in_the_wanted_length(system: System) -> None:
    task = system.speak({})
    requests = [
        SpeakRequest("one two", phones=phones("wʌntu"), duration_s=0.6),
        SpeakRequest("one", phones=phones("wʌn")),
    ]
    first, second = task.run([task.prepare(one) for one in requests], seeded(1, 2))
    assert (first.wave.sample_rate, int(first.wave.lengths_B[0])) == (24_000, 30 * 480)
    # 4 frames for each of 3 phones, begin and end.
    assert int(second.wave.lengths_B[0]) == 20 * 480
    # T2S, level 0 and level 1 in two guided steps each, level 2 in one.
    assert first.evaluations == 4 + 4 + 4 + 2
    alone = task.run([task.prepare(requests[1])], seeded(2))[0]
    assert torch.equal(alone.wave.wave_BT, second.wave.wave_BT)


def test_a_voice_prompt_sets_the_length_by_phones(system: System) -> None:
    pytest.importorskip("espeakng_loader")
    task, prompt = system.speak({}), Prompt(recording(1.0, sample_rate=24_000), "one two")
    long = task.prepare(SpeakRequest("one two one two", prompt=prompt)).text.frames
    same = task.prepare(SpeakRequest("one two", prompt=prompt)).text.frames
    assert same == 50
    assert 1.5 * same < long < 2.5 * same
    made = task.run([task.prepare(SpeakRequest("one", prompt=prompt))], seeded(3))
    assert bool(made[0].wave.wave_BT.abs().max() > 0)


def test_it_converts_and_the_voice_matters(system: System) -> None:
    task, source = system.convert({}), recording(0.5, 1, 24_000)
    voices = [Prompt(recording(0.4, seed)) for seed in (2, 3)]
    prepared = [task.prepare(ConvertRequest(source, voice)) for voice in voices]
    first, second = task.run(prepared, seeded(5, 5))
    assert int(first.wave.lengths_B[0]) == 12_000
    assert not torch.equal(first.wave.wave_BT, second.wave.wave_BT)
    alone = task.run(prepared[1:], seeded(5))[0]
    assert torch.equal(alone.wave.wave_BT, second.wave.wave_BT)


def test_presets_are_the_defaults_and_half_the_passes(system: System) -> None:
    best, fast = (system.speak({"preset": name}) for name in ("best", "fast"))
    defaults = dataclasses.asdict(SemanticS2AOptions())
    assert {name: value for name, value in best.options.items() if name != "text"} == defaults
    assert fast.options["text"]["t2s_steps"] == 8, "in place of the system's own 2"
    long = {"preset": "best", "text": {"t2s_steps": 25}}
    speech = [
        task.run([task.prepare(SpeakRequest("one", phones=phones("wʌn"), duration_s=0.6))], seeded(0))[0]
        for task in (fast, system.speak(long))
    ]
    assert speech[0].evaluations * 2 <= speech[1].evaluations


def test_one_network_can_make_all_levels(maskgct_parts: dict[str, str], tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(16, 3, 20, 16, 1, 2, 24))
    save_generator(whole, "maskgct_semantic_s2a", tmp_path / "whole")
    parts = maskgct_parts | {"s2a": str(tmp_path / "whole")}
    system = load_system(save(parts, tmp_path / "system", ("s2a",)))
    assert system.capabilities == {"convert"}
    task = system.convert({"guidance": 0.0})
    (made,) = task.run([task.prepare(ConvertRequest(recording(), Prompt(recording(0.4, 2))))], seeded(0))
    assert made.evaluations == 2 + 2 + 1
    with pytest.raises(ValueError, match="maskgct_semantic cannot speak; it can convert"):
        system.speak({})


def test_parts_that_do_not_fit_are_refused(maskgct_parts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="codebook 0 needs a network in the role 's2a_first'"):
        save(maskgct_parts, tmp_path / "a", ("t2s", "s2a"))
    with pytest.raises(ValueError, match="it needs a tokenizer in the role 'semantic'"):
        save(maskgct_parts, tmp_path / "b", codecs={})
    few = MaskGCTSemanticS2A(MaskGCTSemanticS2AConfig(16, 2, 20, 16, 1, 2, 24))
    save_generator(few, "maskgct_semantic_s2a", tmp_path / "few")
    with pytest.raises(ValueError, match=r"s2a makes 2 codebooks; maskgct-acoustic has 3"):
        save(maskgct_parts | {"s2a": str(tmp_path / "few")}, tmp_path / "c")
    with pytest.raises(ValueError, match="s2a_first makes 2 codebooks; it must make one"):
        save(maskgct_parts | {"s2a_first": str(tmp_path / "few")}, tmp_path / "d")
    other = MaskGCTT2S(MaskGCTSemanticT2SConfig(512, 17, 16, 1, 2, 24))
    save_generator(other, "maskgct_semantic_t2s", tmp_path / "other")
    with pytest.raises(ValueError, match="t2s has codebooks of 17; the codec's have 16"):
        save(maskgct_parts | {"t2s": str(tmp_path / "other")}, tmp_path / "e")
    assert not any((tmp_path / name).exists() for name in "abcde")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first_step": 2}, "unknown key 'first_step' in the options of maskgct_semantic; did you mean"),
        ({"first_steps": 0}, "first_steps is 0; it must be a positive integer"),
        ({"s2a_steps": ()}, r"s2a_steps is \[\]; it needs at least one entry"),
        ({"voice_s": -1.0}, "voice_s is -1.0; it must not be negative"),
        ({"text": {"no_prompt": "pad_frame"}}, "t2s has no id of padding, so it must be 'none'"),
        ({"text": {"length_by": "words"}}, "length_by is 'words'; it must be one of bytes, tokens"),
    ],
)
def test_wrong_options_are_named(system: System, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        system.speak(options)
