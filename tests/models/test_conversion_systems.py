"""SoundStorm and flow matching as systems: tiny untrained networks on tiny codecs convert, and speak through T2S."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from models.codec_sources import load_codec
from models.codecs.interface import Wave
from models.codecs.latents import codebooks
from models.codecs.mill.codec import save_directory
from models.codecs.mill.network import MillConfig, MillNetwork
from models.content import Content
from models.flow_matching.network import (
    ConditionalFlowMatcher,
    FlowMatchingConfig,
    HierarchicalConditionalFlowMatcher,
    HierarchicalFlowMatchingConfig,
)
from models.flow_matching.stages import FlowMatchingOptions, SpeechStage
from models.generators import save_generator
from models.maskgct.t2s import MaskGCTT2S, MaskGCTT2SConfig
from models.prompt import Prompt
from models.soundstorm.network import SoundStorm, SoundStormConfig
from models.system import ConvertRequest, SpeakRequest, System
from models.system_files import load_system, require, save_system

CODEC = MillConfig(
    n_mels=20,
    n_codebooks=3,
    codebook_size=16,
    latent_channels=12,
    encoder_channels=16,
    encoder_dilations=(1,),
    decoder_channels=16,
    decoder_dilations=(1,),
    griffin_lim_iterations=1,
)
SEMANTIC = replace(CODEC, hop_length=640, codebook_size=20)
"""A semantic tokenizer of half the frame rate."""
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "n_layers": 2,
    "n_heads": 2,
    "feed_forward_size": 24,
    "backbone": "transformer",
}
LATENTS = {"latent_size": CODEC.latent_channels}
NETWORKS = {
    "soundstorm": SoundStorm(
        SoundStormConfig(n_semantic_tokens=16, n_codebooks=2, codebook_size=16, **SIZES)
    ),
    "soundstorm-all": SoundStorm(
        SoundStormConfig(n_semantic_tokens=20, n_codebooks=3, codebook_size=16, **SIZES)
    ),
    "flow_matching": ConditionalFlowMatcher(FlowMatchingConfig(**LATENTS, **SIZES)),
    "hierarchical": HierarchicalConditionalFlowMatcher(
        HierarchicalFlowMatchingConfig(n_semantic_tokens=20, latents="continuous", **LATENTS, **SIZES)
    ),
    "t2s": MaskGCTT2S(MaskGCTT2SConfig(258, 16, 16, 1, 2, 24)),
    "t2s-units": MaskGCTT2S(MaskGCTT2SConfig(258, 20, 16, 1, 2, 24)),
}
TRAINABLES = {
    "soundstorm-all": "soundstorm",
    "hierarchical": "flow_matching_hierarchical",
    "t2s": "maskgct_t2s",
    "t2s-units": "maskgct_t2s",
}
# System kind, parts, and whether a further codec makes the semantic tokens.
SYSTEMS: dict[str, tuple[str, dict[str, str], bool]] = {
    "soundstorm": ("soundstorm", {"soundstorm": "soundstorm", "t2s": "t2s"}, False),
    "soundstorm-hierarchical": ("soundstorm", {"soundstorm": "soundstorm-all", "t2s": "t2s-units"}, True),
    "flow_matching": ("flow_matching", {"flow_matching": "flow_matching", "t2s": "t2s"}, False),
    "flow_matching-hierarchical": (
        "flow_matching_hierarchical",
        {"flow_matching": "hierarchical", "t2s": "t2s-units"},
        True,
    ),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories of both codecs and of all networks, whose weights are random."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    for name, config in (("codec", CODEC), ("semantic-codec", SEMANTIC)):
        network = MillNetwork(config)
        latents_ND = network.fit_linear(0.05 * torch.randn(4, 6400))
        codebooks_QVD = network.quantizer.codebooks_QVD
        codebooks_QVD.copy_(torch.randn(codebooks_QVD.shape) * latents_ND.std(dim=0) * 0.5)
        save_directory(network, folder / name, name, "1")
    for name, module in NETWORKS.items():
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.4)
        save_generator(module, TRAINABLES.get(name, name), folder / name)
    return folder


def save(parts: Path, directory: Path, kind: str, generators: dict[str, str], semantic: bool) -> Path:
    save_system(
        directory,
        kind,
        codec=str(parts / "codec"),
        generators={role: parts / name for role, name in generators.items()},
        text={"kind": "bytes"} if "t2s" in generators else None,
        options={"text": {"t2s_steps": 2, "frames_per_token": 1.5}} if "t2s" in generators else {},
        codecs={"semantic": str(parts / "semantic-codec")} if semantic else {},
    )
    return directory


@pytest.fixture(scope="module", params=SYSTEMS)
def directory(request: pytest.FixtureRequest, parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(parts, tmp_path_factory.mktemp(request.param) / "system", *SYSTEMS[request.param])


@pytest.fixture(scope="module")
def system(directory: Path) -> System:
    return load_system(directory)


def recording(seconds: float = 0.5, seed: int = 0, sample_rate: int = 16000, loudness: float = 0.2) -> Wave:
    samples = round(seconds * sample_rate)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4)
    return Wave(loudness * noise / 4, torch.tensor([samples]), sample_rate)


def seeded(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def convert(
    system: System, source: Wave, reference: Wave, seed: int = 0, **options: Any
) -> tuple[torch.Tensor, int]:
    task = system.convert(options)
    (made,) = task.run([task.prepare(ConvertRequest(source, Prompt(reference)))], seeded(seed))
    return made.wave.wave_BT[0, : int(made.wave.lengths_B[0])], made.evaluations


def test_a_conversion_is_as_long_as_its_source(system: System, directory: Path) -> None:
    require(directory, "convert")
    assert system.capabilities == {"convert", "speak"}
    for source in (recording(0.5), recording(0.507, 1), recording(0.5, 2, 24000), recording(0.5, 3, 8000)):
        samples = int(source.lengths_B[0]) * 16000 // source.sample_rate
        wave_T, evaluations = convert(system, source, recording(0.3, 4))
        assert len(wave_T) == samples
        assert wave_T.isfinite().all()
        assert evaluations >= 7


def test_what_is_given_decides(system: System) -> None:
    source, reference = recording(0.5, 1), recording(0.4, 2)
    plain, _ = convert(system, source, reference)
    assert torch.equal(convert(system, source, reference)[0], plain)
    assert not torch.equal(convert(system, source, reference, seed=1)[0], plain)
    assert not torch.equal(convert(system, source, recording(1.0, 3))[0], plain)
    assert not torch.equal(convert(system, recording(0.5, 4), reference)[0], plain)


def test_rows_do_not_depend_on_their_batch(system: System) -> None:
    task = system.convert({})
    voice = Prompt(recording(0.3, 9))
    requests = [
        ConvertRequest(recording(0.5, 1), voice),
        ConvertRequest(recording(0.3, 2), Prompt(recording(0.6, 3))),
        ConvertRequest(recording(0.7, 4), voice),
    ]
    prepared = [task.prepare(one) for one in requests]
    together = task.run(prepared, seeded(0, 1, 2))
    for row, one in enumerate(prepared):
        (alone,) = task.run([one], seeded(row))
        torch.testing.assert_close(alone.wave.wave_BT, together[row].wave.wave_BT, rtol=0, atol=1e-3)


def test_text_is_spoken_through_t2s(system: System) -> None:
    task = system.speak({})
    assert task.options["text"]["t2s_steps"] == 2
    requests = [
        SpeakRequest("some words", duration_s=0.64),
        SpeakRequest("other words", prompt=Prompt(recording(0.4), "words"), duration_s=0.32),
    ]
    prepared = [task.prepare(one) for one in requests]
    found = task.run(prepared, seeded(0, 1))
    assert [one.wave.wave_BT.shape[1] for one in found] == [10240, 5120]
    again = task.run(prepared, seeded(0, 1))
    assert all(torch.equal(a.wave.wave_BT, b.wave.wave_BT) for a, b in zip(found, again, strict=True))


def test_published_options_are_known(parts: Path, tmp_path: Path) -> None:
    storm = load_system(save(parts, tmp_path / "soundstorm", *SYSTEMS["soundstorm"]))
    source, reference = recording(0.5), recording(0.3, 1)
    names = {"steps": 4, "greedy": False, "generator_sample_temperature": 0.7, "topk_pres": 0.5}
    assert convert(storm, source, reference, num_full_sampling_levels=2, **names)[1] == 8
    assert convert(storm, source, reference)[1] == 8 + 1
    assert convert(storm, source, reference, schedule="published")[1] == 2 * 9
    assert convert(storm, source, reference, once_all_tokens=True)[1] == 1
    flow = load_system(save(parts, tmp_path / "flow", *SYSTEMS["flow_matching"]))
    assert convert(flow, source, reference)[1] == 8
    assert convert(flow, source, reference, steps=3, grid="uniform", method="midpoint")[1] == 6
    assert convert(flow, source, reference, steps=4, grid="published", method="midpoint")[1] == 32
    plain = convert(flow, source, reference)[0]
    for options in (
        {"guidance": 1.0},
        {"guidance": 1.0, "guidance_stop": 0.5},
        {"guidance": 1.0, "guidance_parallel": 0.0, "guidance_momentum": -0.5, "guidance_max_rms": 0.1},
        {"prompt_state": "overwritten"},
    ):
        assert not torch.equal(convert(flow, source, reference, **options)[0], plain)


@pytest.mark.parametrize(
    ("kind", "best", "fast"), [("soundstorm", 8 + 1, 1 + 1), ("flow_matching", 2 * 4, 2 * 2)]
)
def test_presets_are_the_defaults_and_fewer_evaluations(
    parts: Path, tmp_path: Path, kind: str, best: int, fast: int
) -> None:
    system = load_system(save(parts, tmp_path / "system", *SYSTEMS[kind]))
    source, reference = recording(0.5), recording(0.3, 1)
    best_T, evaluations = convert(system, source, reference, preset="best")
    assert torch.equal(best_T, convert(system, source, reference)[0])
    assert (evaluations, convert(system, source, reference, preset="fast")[1]) == (best, fast)
    assert system.speak({"preset": "best"}).options == system.speak({}).options
    assert system.speak({"preset": "fast"}).options["text"]["t2s_steps"] == 8


def test_rows_of_the_published_schedule_may_differ_in_length(parts: Path, tmp_path: Path) -> None:
    system = load_system(save(parts, tmp_path / "system", *SYSTEMS["soundstorm"]))
    task = system.convert({"schedule": "published", "steps": 2})
    requests = [
        ConvertRequest(recording(0.3, 1), Prompt(recording(0.4))),
        ConvertRequest(recording(0.5, 2), Prompt(recording(0.3))),
    ]
    found = task.run([task.prepare(one) for one in requests], seeded(0, 1))
    assert [one.wave.wave_BT.shape[1] for one in found] == [4800, 8000]
    assert {one.evaluations for one in found} == {6}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stepps": 3}, r"unknown key 'stepps' in the options of .*; did you mean 'steps'\?"),
        ({"steps": 0}, "steps is 0"),
        ({"max_prompt_s": 0}, "max_prompt_s is 0; it must be above 0"),
        ({"text": {"t2s_step": 3}}, "unknown key 't2s_step' in the options of maskgct_t2s"),
    ],
)
def test_wrong_options_are_refused(system: System, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        system.convert(options)


def test_recordings_that_are_too_long_are_refused(system: System) -> None:
    task = system.convert({"max_prompt_s": 2, "max_source_s": 3})
    with pytest.raises(ValueError, match=r"reference is 2.5 s long; the most is 2 s \(max_prompt_s\)"):
        task.prepare(ConvertRequest(recording(), Prompt(recording(2.5))))
    with pytest.raises(ValueError, match=r"source is 3.5 s long; the most is 3 s \(max_source_s\)"):
        task.prepare(ConvertRequest(recording(3.5), Prompt(recording())))


@pytest.mark.parametrize(
    ("kind", "generators", "semantic", "message"),
    [
        ("soundstorm", {"soundstorm": "soundstorm"}, True, "generates 2 levels; codec has 3, with a further"),
        (
            "soundstorm",
            {"soundstorm": "soundstorm-all"},
            False,
            "generates 3 levels; codec has 2 above the semantic one, without a further semantic codec",
        ),
        (
            "flow_matching_hierarchical",
            {"flow_matching": "hierarchical"},
            False,
            "flow_matching_hierarchical reads 20 semantic tokens; codec@1 has 16",
        ),
        ("soundstorm", {"soundstorm": "soundstorm", "t2s": "t2s-units"}, False, "t2s has codebooks of 20"),
        (
            "soundstorm",
            {"soundstorm": "flow_matching"},
            False,
            "generator soundstorm is a flow_matching; it must be a soundstorm",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    parts: Path, tmp_path: Path, kind: str, generators: dict[str, str], semantic: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save(parts, tmp_path / "system", kind, generators, semantic)
    assert not (tmp_path / "system").exists()


def test_without_a_text_stage_it_converts_only(parts: Path, tmp_path: Path) -> None:
    directory = save(
        parts, tmp_path / "system", "flow_matching", {"flow_matching": "flow_matching"}, semantic=False
    )
    system = load_system(directory)
    assert system.capabilities == {"convert"}
    with pytest.raises(ValueError, match="a flow_matching system cannot speak; it can convert"):
        require(directory, "speak")
    assert len(convert(system, recording(), recording(0.3, 1))[0]) == 8000


def test_a_reference_keeps_its_latents_from_before_quantization(parts: Path, tmp_path: Path) -> None:
    """A continuous flow is given what the encoder makes of the reference, not the vectors of its codes."""

    codec, tokenizer = load_codec(str(parts / "codec")), load_codec(str(parts / "semantic-codec"))
    model = NETWORKS["hierarchical"]
    assert isinstance(model, HierarchicalConditionalFlowMatcher)
    stage = SpeechStage(model, codebooks(codec), Content(codec, tokenizer), FlowMatchingOptions())
    wave = recording(0.5)
    voice = stage.voice(wave.wave_BT[0])
    latents = codec.encode_latents(wave.wave_BT, wave.lengths_B).latents_BTD[0]  # type: ignore[attr-defined]
    assert torch.equal(voice.frames_PX, latents)
    assert (len(voice.content_S), len(latents)) == (13, 25)
