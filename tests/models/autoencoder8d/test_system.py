"""The 8-D autoencoder: latents in and out, voices, the tokens that latents are decoded as, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from models.autoencoder8d.decode import PUBLISHED, SPEECH_PRESETS, Autoencoder8dOptions, DecodeRequest
from models.autoencoder8d.surface import Metis8dDecoder
from models.autoencoder8d.system import Autoencoder8d
from models.codecs.interface import Wave
from models.content import Voice
from models.prompt import Prompt
from models.system import ConvertRequest, SpeakRequest
from models.system_files import load_system, save_system

QUICK = {"first_steps": 2, "s2a_steps": (2, 2, 1)}


@pytest.fixture(scope="module")
def system(maskgct_parts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Autoencoder8d:
    directory = tmp_path_factory.mktemp("autoencoder8d") / "system"
    save_system(
        directory,
        "autoencoder8d",
        codec=maskgct_parts["codec"],
        generators={role: Path(maskgct_parts[role]) for role in ("t2s", "s2a_first", "s2a")},
        text={"kind": "phonemes"},
        options=QUICK | {"text": {"t2s_steps": 2}},
        codecs={"semantic": maskgct_parts["semantic"]},
    )
    loaded = load_system(directory)
    assert isinstance(loaded, Autoencoder8d)
    return loaded


def recording(seconds: float = 0.5, seed: int = 0, sample_rate: int = 24_000) -> Wave:
    samples = round(seconds * sample_rate)
    noise = torch.randn(1, samples, generator=torch.Generator().manual_seed(seed)).clamp(-4, 4)
    return Wave(0.05 * noise, torch.tensor([samples]), sample_rate)


def encoded(system: Autoencoder8d, wave: Wave) -> Tensor:
    task = system.encode({})
    (latents,) = task.run([task.prepare(wave)])
    return latents.latents_BTD[0]


def decoded(
    system: Autoencoder8d, latents: Tensor, voice: Any = None, seed: int = 0, **options: Any
) -> Tensor:
    task = system.decode(options)
    planned = task.prepare(DecodeRequest(latents, voice))
    return task.run([planned], [torch.Generator().manual_seed(seed)])[0].wave.wave_BT[0]


def test_it_can_do_everything(system: Autoencoder8d) -> None:
    assert system.capabilities == {"speak", "convert", "encode"}
    task = system.speak({})
    planned = task.prepare(SpeakRequest("one", phones=("w", "ʌ", "n"), duration_s=0.2))
    assert task.run([planned], [torch.Generator()])[0].wave.wave_BT.shape == (1, 10 * 480)


def test_latents_are_decoded_as_the_tokens_of_their_recording(system: Autoencoder8d) -> None:
    wave = recording()
    latents = encoded(system, wave)
    assert latents.shape == (24, 4)
    tokens = system.decode({}).tokens(latents)
    resampled = system.encode({}).prepare(wave)
    codes = system.tokenizer.encode(resampled[None], torch.tensor([len(resampled)])).codes_BQT[0, 0]
    assert torch.equal(tokens, codes)
    assert torch.equal(system.decode({}).tokens(3 * latents), codes)
    nearest = torch.cdist(latents, system.tokenizer.repcodec.codebook.vectors_Vc).argmin(1)
    assert torch.equal(system.decode({"metric": "euclidean"}).tokens(latents), nearest)
    assert not torch.equal(nearest, codes)


def test_decoding_what_was_encoded_converts(system: Autoencoder8d) -> None:
    source, reference = recording(0.5, 1), Prompt(recording(0.4, 2))
    for options in ({}, {"metric": "euclidean"}):
        task = system.convert(options)
        planned = task.prepare(ConvertRequest(source, reference))
        (converted,) = task.run([planned], [torch.Generator().manual_seed(0)])
        # The last frame stands for the rest of the recording, too.
        latents = encoded(system, source)
        again = decoded(system, torch.cat([latents, latents[-1:]]), reference, **options)
        assert torch.equal(converted.wave.wave_BT[0], again)


def test_the_reference_is_heard_up_to_the_length_of_what_is_made(system: Autoencoder8d) -> None:
    latents = encoded(system, recording(0.3, 1))
    draws = torch.Generator().manual_seed(0)
    codes, content = (
        torch.randint(0, n, shape, generator=draws) for n, shape in ((20, (30, 3)), (16, (30,)))
    )

    def made(codes: Tensor, content: Tensor = content, **options: Any) -> Tensor:
        return decoded(system, latents, Voice(content, codes), **options)

    later, early = codes.clone(), codes.clone()
    later[len(latents) :] = 7
    early[:5] = 7
    assert torch.equal(made(later), made(codes))
    assert not torch.equal(made(early), made(codes))
    assert not torch.equal(made(later, voice_s=0.0), made(codes, voice_s=0.0))
    assert torch.equal(made(codes, voice_s=0.1), made(codes[:5], content[:5]))
    assert not torch.equal(decoded(system, latents), made(codes))


def test_rows_do_not_depend_on_their_batch(system: Autoencoder8d) -> None:
    task = system.decode({})
    rows = [encoded(system, recording(seconds, seed)) for seed, seconds in enumerate((0.5, 0.2))]
    voices = [None, Prompt(recording(0.3, 5))]
    prepared = [task.prepare(DecodeRequest(row, voice)) for row, voice in zip(rows, voices, strict=True)]
    together = task.run(prepared, [torch.Generator().manual_seed(seed) for seed in (1, 2)])
    for row, seed in enumerate((1, 2)):
        alone = task.run(prepared[row : row + 1], [torch.Generator().manual_seed(seed)])[0]
        assert torch.equal(alone.wave.wave_BT, together[row].wave.wave_BT)


def test_passes_are_counted(system: Autoencoder8d) -> None:
    task = system.decode({"first_steps": 3, "s2a_steps": (1, 2, 1)})
    planned = task.prepare(DecodeRequest(torch.randn(40, 4, generator=torch.Generator().manual_seed(0))))
    assert task.run([planned], [torch.Generator()])[0].evaluations == 3 + 2 * (2 + 1)
    assert task.options["first_guidance"] == 0.0
    assert system.decode(PUBLISHED).options["s2a_steps"] == (40, 16, 1)


def test_presets_are_those_of_the_speech_stage(system: Autoencoder8d) -> None:
    task = system.decode({"preset": "best"})
    assert task.options == dataclasses.asdict(Autoencoder8dOptions())
    assert system.decode({"preset": "fast"}).options == {**task.options, **SPEECH_PRESETS["fast"]}
    assert system.convert({"preset": "fast"}).options == system.decode({"preset": "fast"}).options


def test_the_surface_takes_arrays_with_and_without_a_batch(system: Autoencoder8d) -> None:
    decoder = Metis8dDecoder(system.decode({}), seed=3)
    latents = encoded(system, recording()).numpy()
    samples = decoder.decode_from_z(latents)
    assert samples.dtype == np.float32
    assert samples.shape == (24 * 480,)
    assert np.array_equal(samples, decoder.decode_from_z(latents[None]))
    prompt, semantic = np.full((1, 6, 3), 4), np.zeros((1, 9), dtype=np.int64)
    voiced = decoder.decode_from_z(latents, prompt)
    assert not np.array_equal(voiced, samples)
    assert np.array_equal(voiced, decoder.decode_from_z(latents, prompt[0], semantic[0]))
    assert np.array_equal(samples, decoder.decode_from_z(latents, prompt[:, :0]))
    with pytest.raises(ValueError, match=r"z has shape \(2, 24, 4\); expected 2 axes, or a batch of one"):
        decoder.decode_from_z(np.stack([latents, latents]))
    with pytest.raises(ValueError, match="prompt_semantic_code is given without prompt_acoustic_code"):
        decoder.decode_from_z(latents, None, semantic)


@pytest.mark.parametrize(
    ("latents", "voice", "message"),
    [
        (torch.zeros(5, 3), None, r"latents have shape \(5, 3\); expected \(frames, 4\), at least 1 frame"),
        (torch.zeros(0, 4), None, "at least 1 frame"),
        (torch.full((5, 4), torch.nan), None, "latents hold numbers that are not finite"),
        (torch.zeros(1501, 4), None, r"latents have 1501 frames; the most is 1500 \(max_source_s\)"),
        (torch.zeros(5, 4), Prompt(recording(31.0)), r"reference is 31.0 s long; the most is 30 s"),
        (
            torch.zeros(5, 4),
            Voice(torch.zeros(5).long(), torch.zeros(5, 2).long()),
            r"the reference has codes \(5, 2\) and 5 semantic tokens; expected \(frames, 3\) and at least one",
        ),
        (
            torch.zeros(5, 4),
            Voice(torch.full((5,), 16), torch.zeros(5, 3).long()),
            "codes range from 16 to 16; this codec's codes are 0 to 15",
        ),
    ],
)
def test_what_cannot_be_decoded_is_refused(
    system: Autoencoder8d, latents: Tensor, voice: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        system.decode({}).prepare(DecodeRequest(latents, voice))


def test_a_system_without_latents_is_refused(maskgct_parts: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="autoencoder8d needs a semantic tokenizer with latents"):
        save_system(
            tmp_path / "system",
            "autoencoder8d",
            codec=maskgct_parts["codec"],
            generators={role: Path(maskgct_parts[role]) for role in ("s2a_first", "s2a")},
            text=None,
        )


def test_encoding_has_no_options(system: Autoencoder8d) -> None:
    with pytest.raises(ValueError, match="unknown key 'step' in the options of encoding"):
        system.encode({"step": 1})


def test_the_example_of_the_docs(
    system: Autoencoder8d,
    maskgct_parts: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_system(
        tmp_path / "SYSTEM",
        "autoencoder8d",
        codec=maskgct_parts["codec"],
        generators={role: Path(maskgct_parts[role]) for role in ("s2a_first", "s2a")},
        text=None,
        options=QUICK,
        codecs={"semantic": maskgct_parts["semantic"]},
    )
    for name, seed in (("source", 0), ("reference", 1), ("other", 2)):
        samples = recording(seed=seed).wave_BT[0].numpy()
        soundfile.write(f"{name}.wav", samples, 24_000)
    page = Path(__file__).parents[3] / "docs" / "maskgct.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, page.name, "exec"), names)
    assert names["samples"].ndim == 1
    assert len(names["samples"]) > 0
    assert names["between"].shape == names["z"].shape
