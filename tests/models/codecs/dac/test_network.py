"""Descript's codec: its pieces are the whole, its weights come from anywhere, its sizes are the published ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.checkpoints import StateReader
from models.codec_sources import load_codec
from models.codecs.dac import checkpoint_descript, descript
from models.codecs.dac.network import (
    PRESETS,
    ConvolutionalCodec,
    ConvolutionalConfig,
    build_network,
    build_trainable,
    plain_weights,
    save_directory,
    take_weights,
)
from models.codecs.interface import Codes

Sweep = Callable[[int, int], Tensor]
TINY = ConvolutionalConfig(
    16_000,
    (2, 4, 5),
    n_codebooks=3,
    codebook_size=16,
    codebook_channels=4,
    encoder_channels=4,
    decoder_channels=32,
)


@pytest.fixture(scope="module")
def trainable() -> nn.Module:
    torch.manual_seed(0)
    return build_trainable(TINY).eval()


@pytest.fixture
def codec(trainable: nn.Module) -> ConvolutionalCodec:
    network = build_network(TINY)
    network.load_state_dict(plain_weights(trainable))
    return ConvolutionalCodec(network, TINY, "tiny", "1", "none")


def encode_one(codec: Any, wave_T: Tensor) -> Tensor:
    return codec.encode(wave_T[None], torch.tensor([len(wave_T)])).codes_BQT[0]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 8000), st.integers(1, 60), st.integers(0, 99))
def test_pieces_are_the_whole(
    codec: ConvolutionalCodec, sweep: Sweep, samples: int, piece_frames: int, seed: int
) -> None:
    wave_T = sweep(samples, seed)
    codec.piece_frames = 1000
    whole = encode_one(codec, wave_T)
    codes = Codes(whole[None], torch.tensor([whole.shape[1]]))
    sound = codec.decode(codes).wave_BT
    codec.piece_frames = piece_frames
    assert torch.equal(encode_one(codec, wave_T), whole)
    torch.testing.assert_close(codec.decode(codes).wave_BT, sound, rtol=1e-4, atol=1e-5)


def test_no_piece_is_longer_than_was_asked_for(codec: ConvolutionalCodec, sweep: Sweep) -> None:
    lengths: list[int] = []
    for part in (codec.network.encoder, codec.network.decoder):
        part.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[2]))
    codec.piece_frames = 10
    codes = codec.encode(sweep(40_000, 0)[None], torch.tensor([40_000]))
    assert len(lengths) == 100
    assert max(lengths) == (10 + 2 * TINY.encoder_context) * TINY.hop_length
    lengths.clear()
    codec.decode(codes)
    assert max(lengths) == 10 + 2 * TINY.decoder_context


def test_a_frame_reaches_no_further_than_its_context(codec: ConvolutionalCodec) -> None:
    def reach(part: nn.Module, given: Tensor, place: slice) -> tuple[int, int]:
        given.requires_grad_()
        part(given)[0, :, place].sum().backward()
        touched = torch.nonzero(given.grad[0].abs().sum(dim=0)).flatten()  # type: ignore[index]
        return int(touched.min()), int(touched.max())

    hop, middle = TINY.hop_length, 30
    low, high = reach(codec.network.encoder, torch.randn(1, 1, 60 * hop), slice(middle, middle + 1))
    context = TINY.encoder_context
    assert (middle - context) * hop <= low < high < (middle + 1 + context) * hop
    assert max(middle * hop - low, high - middle * hop) > (context - 2) * hop
    latent = torch.randn(1, TINY.encoder_channels * 8, 60)
    low, high = reach(codec.network.decoder, latent, slice(middle * hop, (middle + 1) * hop))
    context = TINY.decoder_context
    assert middle - context <= low < high <= middle + context
    assert max(middle - low, high - middle) >= context - 2


def test_it_is_what_transformers_computes(codec: ConvolutionalCodec, sweep: Sweep) -> None:
    from transformers import DacConfig, DacModel

    theirs = DacModel(
        DacConfig(
            encoder_hidden_size=4,
            decoder_hidden_size=32,
            downsampling_ratios=[2, 4, 5],
            n_codebooks=3,
            codebook_size=16,
            codebook_dim=4,
        )
    ).eval()
    theirs.load_state_dict(codec.network.state_dict())
    wave_T = sweep(4000, 0)
    with torch.no_grad():
        codes_1QT = theirs.encode(wave_T[None, None]).audio_codes
        sound_1T = theirs.decode(audio_codes=codes_1QT).audio_values
        vectors_1DT = theirs.quantizer.from_codes(codes_1QT)[0]
    # What lies behind the wave is zeros before our first layer, and before every layer there.
    settled = 100 - TINY.encoder_context
    ours_QT = encode_one(codec, wave_T)
    assert torch.equal(ours_QT[:, :settled], codes_1QT[0, :, :settled])
    found = codec.decode(Codes(codes_1QT, torch.tensor([100]))).wave_BT
    assert (found.shape[1], sound_1T.shape[1]) == (4000, 3992)
    # Its decoder's odd ratio loses a sample, and with it what the last frames see.
    heard = (100 - TINY.decoder_context) * TINY.hop_length
    assert heard > 2000
    torch.testing.assert_close(found[:, :heard], sound_1T[:, :heard], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codec.embed(codes_1QT), vectors_1DT)


def test_directories_of_the_hub_are_codecs(codec: ConvolutionalCodec, sweep: Sweep, tmp_path: Path) -> None:
    codec.network.save_pretrained(tmp_path)
    described = json.loads((tmp_path / "config.json").read_text())
    # The published 16 kHz directory keeps a hop that its ratios contradict; the ratios count.
    (tmp_path / "config.json").write_text(json.dumps({**described, "hop_length": 512}))
    found = load_codec(str(tmp_path))
    assert (found.name, found.edition, found.sample_rate, found.hop_length) == (
        "dac-16khz",
        "hub",
        16_000,
        40,
    )
    wave_T = sweep(2000, 1)
    assert torch.equal(encode_one(found, wave_T), encode_one(codec, wave_T))


def test_weights_of_descript_make_the_same_codes_and_sound(sweep: Sweep, tmp_path: Path) -> None:
    dac = pytest.importorskip("dac.model.dac")
    torch.manual_seed(0)
    theirs = dac.DAC(
        encoder_dim=4,
        encoder_rates=[2, 4],
        decoder_dim=16,
        decoder_rates=[4, 2],
        n_codebooks=2,
        codebook_size=16,
        codebook_dim=4,
        sample_rate=16_000,
    ).eval()
    config = ConvolutionalConfig(16_000, (2, 4), 2, 16, 4, encoder_channels=4, decoder_channels=16)
    weights = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    assert descript.is_descript(weights)
    assert not descript.is_descript(build_network(config).state_dict())
    network = build_network(config)
    network.load_state_dict(descript.to_hugging_face(weights))
    ours = ConvolutionalCodec(network, config, "tiny", "1", "none")
    wave_T = sweep(1600, 0)
    with torch.no_grad():
        _, codes_1QT, *_ = theirs.encode(wave_T[None, None])
        sound_11T = theirs.decode(theirs.quantizer.from_codes(codes_1QT)[0])
    settled = 200 - config.encoder_context
    assert torch.equal(encode_one(ours, wave_T)[:, :settled], codes_1QT[0, :, :settled])
    found = ours.decode(Codes(codes_1QT, torch.tensor([200]))).wave_BT
    torch.testing.assert_close(found, sound_11T[0], rtol=1e-4, atol=1e-5)


def test_a_release_of_descript_becomes_a_codec(sweep: Sweep, tmp_path: Path) -> None:
    dac = pytest.importorskip("dac.model.dac")
    torch.manual_seed(1)
    kwargs = {
        "encoder_dim": 4,
        "encoder_rates": [2, 5],
        "decoder_dim": 16,
        "decoder_rates": [5, 2],
        "n_codebooks": 2,
        "codebook_size": 16,
        "codebook_dim": 4,
        "sample_rate": 16_000,
    }
    theirs = dac.DAC(**kwargs).eval()
    stored = {"state_dict": theirs.state_dict(), "metadata": {"kwargs": kwargs}}
    torch.save(stored, tmp_path / "weights.pth")
    config, weights = checkpoint_descript.files(tmp_path / "weights.pth")
    network = checkpoint_descript.convert(config, StateReader("descript-dac", weights))
    for key, value in descript.to_hugging_face(theirs.state_dict()).items():
        assert torch.equal(network.state_dict()[key], value)
    checkpoint_descript.save(network, tmp_path / "codec")
    codec = load_codec(str(tmp_path / "codec"))
    assert (codec.name, codec.edition, codec.hop_length) == ("dac-16khz", "descript", 10)
    wave_T = sweep(2000, 0)
    with torch.no_grad():
        codes_1QT = theirs.encode(wave_T[None, None])[1]
    settled = 200 - codec.context.encode
    assert torch.equal(encode_one(codec, wave_T)[:, :settled], codes_1QT[0, :, :settled])
    with pytest.raises(ValueError, match=r"decoder_rates is \[2, 5\]; it must be \[5, 2\] here"):
        checkpoint_descript.convert({**kwargs, "decoder_rates": [2, 5]}, StateReader("descript-dac", weights))
    (tmp_path / "other.pth").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"other\.pth is not a file of tensors"):
        checkpoint_descript.files(tmp_path / "other.pth")
    torch.save({"weights": 1}, tmp_path / "another.pth")
    with pytest.raises(ValueError, match=r"another\.pth must hold state_dict and metadata\.kwargs"):
        checkpoint_descript.files(tmp_path / "another.pth")


def test_codes_with_a_leading_axis_are_those_without(codec: ConvolutionalCodec) -> None:
    codes_BQT = torch.randint(0, 16, (2, 3, 9))
    lengths_B = torch.tensor([9, 4])
    for decode in (codec.embed, lambda given: codec.decode(Codes(given, lengths_B)).wave_BT):
        assert torch.equal(decode(codes_BQT[None]), decode(codes_BQT))
    with pytest.raises(ValueError, match=r"\(2, 2, 3, 9\); expected integers \(batch, codebooks, frames\)"):
        codec.embed(codes_BQT.expand(2, -1, -1, -1))


def test_what_is_saved_is_loaded(
    trainable: nn.Module, codec: ConvolutionalCodec, sweep: Sweep, tmp_path: Path
) -> None:
    save_directory(trainable, TINY, tmp_path, "mine", "3")
    found = load_codec(str(tmp_path))
    assert isinstance(found, ConvolutionalCodec)
    assert (found.name, found.edition, found.config) == ("mine", "3", TINY)
    assert len(found.weights_sha256) == 64
    wave_T = sweep(2000, 2)
    assert torch.equal(encode_one(found, wave_T), encode_one(codec, wave_T))


def test_weights_as_direction_and_length_sound_the_same(trainable: nn.Module, sweep: Sweep) -> None:
    torch.manual_seed(1)
    other: Any = build_trainable(TINY)
    wave_11T = sweep(400, 0)[None, None]
    encoder: Any = trainable.get_submodule("encoder")
    assert not torch.allclose(other.encoder(wave_11T), encoder(wave_11T))
    take_weights(other, plain_weights(trainable))
    torch.testing.assert_close(other.encoder(wave_11T), encoder(wave_11T), rtol=1e-4, atol=1e-5)
    names = [name for name, _ in trainable.named_parameters()]
    assert sum("parametrizations" in name for name in names) == 2 * sum("bias" in name for name in names)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "opus"}, "unknown codec kind 'opus'; known: dac, encodec, "),
        ({"config": {"ratios": [2, 4, 5]}}, "config.json: .*missing .* 'sample_rate' and 'n_codebooks'"),
        ({"config": {"sample_rate": 16_000}}, "config.json: lacks 'ratios'"),
        ({"config": {"sample_rate": 16_000, "ratios": [1], "n_codebooks": 1}}, r"ratios is \(1,\)"),
        (
            {"config": {"sample_rate": 16_000, "ratios": [2], "n_codebooks": 1}},
            "does not fit its config.json",
        ),
        ({"kind": None, "model_type": "dac"}, "config.json: lacks 'name'|config.json: "),
    ],
)
def test_directories_that_do_not_fit_are_refused(
    trainable: nn.Module, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save_directory(trainable, TINY, tmp_path, "mine", "3")
    path = tmp_path / "config.json"
    described = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in described.items() if value is not None}))
    with pytest.raises(ValueError, match=message) as refusal:
        load_codec(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_other_decoders_of_the_hub_are_refused(codec: ConvolutionalCodec, tmp_path: Path) -> None:
    codec.network.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "upsampling_ratios": [2, 4, 5]}))
    with pytest.raises(
        ValueError, match=r"upsampling_ratios is \[2, 4, 5\]; must be the reverse of \[2, 4, 5\]"
    ):
        load_codec(str(tmp_path))
    parler = {"model_type": "dac", "sampling_rate": 16_000, "num_codebooks": 9, "codebook_size": 1024}
    path.write_text(json.dumps({**parler, "latent_dim": 1024}))
    with pytest.raises(ValueError, match="only descript's 44 kHz model is known so"):
        load_codec(str(tmp_path))
    path.write_text(json.dumps(described))
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "snake1" not in name},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ValueError, match=r"does not fit its config.json: decoder\.block\.0"):
        load_codec(str(tmp_path))


def test_presets_are_the_published_ones() -> None:
    def kbit_s(config: ConvolutionalConfig) -> float:
        bits = config.n_codebooks * (config.codebook_size - 1).bit_length()
        return bits * config.sample_rate / config.hop_length / 1000

    assert {name: round(kbit_s(config), 1) for name, config in PRESETS.items()} == {
        "16khz": 6.0,
        "24khz": 24.0,
        "44khz": 7.8,
        "44khz-2048": 1.9,
    }
    assert [config.hop_length for config in PRESETS.values()] == [320, 320, 512, 2048]
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in build_network(config).parameters()) for config in PRESETS.values()]
    assert [round(size / 1e6, 1) for size in sizes[:3]] == [74.1, 74.7, 76.6]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratios": ()}, r"ratios is \(\): needs at least one"),
        ({"codebook_size": 1000}, "codebook_size is 1000: must be a power of two"),
        ({"decoder_channels": 36}, "decoder_channels is 36: must be a multiple of 8"),
        ({"n_codebooks": 0}, "n_codebooks is 0: must be at least 1"),
    ],
)
def test_wrong_sizes_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **wrong)
