"""Codecs of transformers: the same codes and waves as their own `encode` and `decode`, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.codecs.source import first_levels
from models.codecs.transformers.encodec import ChunkedEncodecCodec
from models.codecs.transformers.example import MODELS
from models.codecs.transformers.load import KINDS, load_directory

Sweep = Callable[[int, int], Tensor]
Made = Callable[[str], Path]


def published(name: str, directory: Path) -> Any:
    import transformers

    kind = json.loads((directory / "config.json").read_text())["model_type"]
    return getattr(transformers, KINDS[kind].model).from_pretrained(directory).eval()


@torch.no_grad()
def published_codes(name: str, model: Any, wave_T: Tensor) -> Tensor:
    """(Q, T), by the feature extractor of each model where it has one."""
    if name == "xcodec2":
        from transformers import Xcodec2FeatureExtractor

        given = Xcodec2FeatureExtractor()(wave_T, sampling_rate=16_000, return_tensors="pt")
        return model.encode(**given).audio_codes[0]
    if name in ("xcodec", "higgs_audio"):
        hop = model.config.hop_length
        wave_T = torch.nn.functional.pad(wave_T, (0, -len(wave_T) % hop))
    if name == "encodec_24khz":
        return model.encode(wave_T[None, None], bandwidth=9.6).audio_codes[0, 0]
    return model.encode(wave_T[None, None]).audio_codes[0]


@pytest.mark.parametrize("samples", [5760, 4999])
@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"encodec_48khz"}))
@torch.no_grad()
def test_codes_and_waves_are_those_of_transformers(
    name: str, samples: int, tiny_codec: Made, sweep: Sweep
) -> None:
    model, codec = published(name, tiny_codec(name)), load_directory(tiny_codec(name))
    wave_T = sweep(samples, 1)
    theirs_QT = published_codes(name, model, wave_T)
    codes = codec.encode(wave_T[None], torch.tensor([samples]))
    assert torch.equal(codes.codes_BQT[0], theirs_QT)
    assert len(theirs_QT.unique()) > 4
    scales = {"audio_scales": [None]} if name.startswith("encodec") else {}
    given = theirs_QT[None, None] if name.startswith("encodec") else theirs_QT[None]
    sound_T = model.decode(given, **scales).audio_values.flatten()
    found_T = codec.decode(codes).wave_BT[0]
    torch.testing.assert_close(found_T, sound_T.clamp(-1, 1)[: len(found_T)], rtol=1e-4, atol=1e-5)
    assert len(found_T) == len(sound_T)


@torch.no_grad()
def test_chunks_are_those_of_transformers_and_their_loudness_a_level(tiny_codec: Made, sweep: Sweep) -> None:
    name = "encodec_48khz"
    model, codec = published(name, tiny_codec(name)), load_directory(tiny_codec(name))
    assert isinstance(codec, ChunkedEncodecCodec)
    wave_T = sweep(2 * codec.stride + codec.chunk, 1) * torch.linspace(0.1, 1, 2 * codec.stride + codec.chunk)
    # transformers' own feature extractor makes rows of whole chunks, and the last chunk there is the end of another.
    theirs = model.encode(wave_T.expand(1, 2, -1)[..., : 3 * codec.stride], bandwidth=19.2)
    codes = codec.encode(wave_T[None], torch.tensor([len(wave_T)]))
    assert codes.lengths_B.tolist() == [3 * codec.chunk_frames]
    for chunk in range(2):
        ours_QT = codes.codes_BQT[0, :, chunk * codec.chunk_frames :][:, : codec.chunk_frames]
        assert torch.equal(ours_QT[1:], theirs.audio_codes[chunk, 0])
        assert len(ours_QT[0].unique()) == 1
    whole = [codes.codes_BQT[0, 1:, at : at + codec.chunk_frames] for at in range(0, 180, 60)]
    scales = [
        wave_T[at : at + codec.chunk].square().mean().sqrt()
        for at in range(0, 3 * codec.stride, codec.stride)
    ]
    sound_BCT = model.decode(torch.stack(whole)[:, None], [scale.view(1, 1) for scale in scales]).audio_values
    found_T = codec.decode(codes).wave_BT[0]
    # The loudness is kept in steps; ours has few, as the level has 16 codes.
    expected_T = sound_BCT[0].mean(dim=0)
    assert found_T.shape == expected_T.shape
    assert float(torch.corrcoef(torch.stack([found_T, expected_T]))[0, 1]) > 0.9


@pytest.mark.parametrize("samples", [1, 2159, 2160, 2400, 2401, 4560, 4561, 6719])
def test_every_sample_is_in_a_chunk(samples: int, tiny_codec: Made, sweep: Sweep) -> None:
    codec = load_directory(tiny_codec("encodec_48khz"))
    assert isinstance(codec, ChunkedEncodecCodec)
    codes = codec.encode(sweep(samples, 1)[None], torch.tensor([samples]))
    assert codes.lengths_B.tolist() == [codec.identity.frames(samples)]
    wave = codec.decode(codes)
    assert (
        samples
        <= int(wave.lengths_B[0])
        == codec.identity.samples(codec.identity.frames(samples))
        < samples + codec.hop_length
    )


def test_levels_of_the_published_bandwidths(tiny_codec: Made, sweep: Sweep) -> None:
    model = published("encodec_24khz", tiny_codec("encodec_24khz"))
    wave_T = sweep(3000, 2)
    low = model.encode(wave_T[None, None], bandwidth=4.8).audio_codes[0, 0]
    reduced = first_levels(load_directory(tiny_codec("encodec_24khz")), len(low))
    assert torch.equal(reduced.encode(wave_T[None], torch.tensor([3000])).codes_BQT[0], low)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encodec_24khz", ("encodec-24khz", 24_000, 40, 4, 16, 12)),
        ("encodec_48khz", ("encodec-48khz", 48_000, 40, 5, 16, 13)),
        ("mimi", ("mimi-24khz", 24_000, 80, 4, 16, 16)),
        ("xcodec", ("xcodec-16khz", 16_000, 320, 4, 16, 28)),
        ("higgs_audio", ("higgs-audio-v2-tokenizer-24khz", 24_000, 960, 4, 16, 28)),
        ("xcodec2", ("xcodec2-16khz", 16_000, 320, 1, 64, 3)),
    ],
)
def test_identities(name: str, expected: tuple[Any, ...], tiny_codec: Made) -> None:
    codec = load_directory(tiny_codec(name))
    found = (codec.name, codec.sample_rate, codec.hop_length, codec.n_codebooks, codec.codebook_size)
    assert (*found, codec.latents.channels) == expected
    assert (codec.edition, len(codec.weights_sha256)) == ("hub", 64)


def test_weights_that_do_not_fit_are_refused(tiny_codec: Made, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_codec("encodec_24khz"), tmp_path / "codec"))
    weights = load_file(directory / "model.safetensors")
    gone = next(iter(weights))
    save_file({key: value for key, value in weights.items() if key != gone}, directory / "model.safetensors")
    with pytest.raises(
        ValueError, match=f"model.safetensors does not fit its config.json: missing keys {gone}"
    ):
        load_directory(directory)
    (directory / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{directory} cannot be read: .*deserializing header"):
        load_directory(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors"):
        load_directory(directory)


def test_a_model_that_scales_whole_rows_is_refused(tiny_codec: Made, tmp_path: Path) -> None:
    directory = Path(shutil.copytree(tiny_codec("encodec_24khz"), tmp_path / "codec"))
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"normalize": True}))
    with pytest.raises(ValueError, match="a model without chunks must be mono and not scale"):
        load_directory(directory)
    (directory / "config.json").write_text(json.dumps(config | {"num_filters": "many"}))
    with pytest.raises(ValueError, match=f"{directory} cannot be read: .* field 'num_filters'"):
        load_directory(directory)
