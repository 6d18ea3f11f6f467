"""Embedders by their source: every kind, each row as if alone; speaker vectors; refusals."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec
from models.identity import TokenIdentity
from models.semantic.source import EmbedderSource
from models.semantic.speaker import Resemblyzer, ResemblyzerNetwork
from models.tokenizer_sources import load_embedder

Noise = Callable[[int, int], Tensor]


@pytest.fixture(scope="session")
def wavlm_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("semantic") / "wavlm"
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, tdnn_dim=(8, 8, 8, 8, 12), xvector_output_dim=6,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(directory)
    return directory


@pytest.fixture(params=["latents", "w2v-bert", "hubert", "whisper", "codec", "speaker"])
def source(
    request: pytest.FixtureRequest,
    semantic_parts: dict[str, Any],
    hubert_directory: Path,
    wavlm_directory: Path,
    tiny_whisper: Path,
) -> EmbedderSource:
    parts = {name: semantic_parts[name] for name in ("statistics", "layer")}
    return {
        "latents": EmbedderSource(
            "latents", semantic_parts["tokenizer"], semantic_parts["features"], **parts
        ),
        "w2v-bert": EmbedderSource("w2v-bert", semantic_parts["features"], **parts),
        "hubert": EmbedderSource("hubert", str(hubert_directory), layer=2),
        "whisper": EmbedderSource("whisper", str(tiny_whisper)),
        "codec": EmbedderSource("codec", "mill-16khz"),
        "speaker": EmbedderSource("speaker", str(wavlm_directory)),
    }[request.param]


def test_rows_do_not_depend_on_their_batch(source: EmbedderSource, noise: Noise) -> None:
    embedder = load_embedder(source)
    waves = [noise(length, seed) for seed, length in enumerate([16_000, 24_000, 9_000])]
    padded_BT = torch.zeros(3, 25_000)
    for row_T, wave_T in zip(padded_BT, waves, strict=True):
        row_T[: len(wave_T)] = wave_T
    found = embedder.embed(padded_BT, torch.tensor([16_000, 24_000, 9_000]))
    assert found.latents_BTD.shape[2] == embedder.identity.channels
    for row, wave_T in enumerate(waves):
        alone = embedder.embed(wave_T[None], torch.tensor([len(wave_T)]))
        frames = int(alone.lengths_B[0])
        assert frames == int(found.lengths_B[row]) > 0
        torch.testing.assert_close(
            found.latents_BTD[row, :frames], alone.latents_BTD[0, :frames], atol=2e-5, rtol=1e-4
        )
        assert not found.latents_BTD[row, frames:].any()


def test_codec_vectors_are_sums_of_code_vectors(noise: Noise) -> None:
    codec = load_codec("mill-16khz")
    wave_BT = noise(16_000, 0)[None]
    found = load_embedder(EmbedderSource("codec", "mill-16khz")).embed(wave_BT, torch.tensor([16_000]))
    codes = codec.encode(wave_BT, torch.tensor([16_000]))
    assert torch.equal(found.latents_BTD[0].T, codec.embed(codes.codes_BQT)[0])


def test_x_vectors_are_those_of_transformers(wavlm_directory: Path, noise: Noise) -> None:
    from transformers import WavLMForXVector

    model = WavLMForXVector.from_pretrained(wavlm_directory).eval()
    wave_T = noise(20_000, 1)
    with torch.no_grad():
        expected_D = torch.nn.functional.normalize(model(wave_T[None]).embeddings[0], dim=0)
    embedder = load_embedder(EmbedderSource("speaker", str(wavlm_directory)))
    found = embedder.embed(wave_T[None], torch.tensor([20_000]))
    torch.testing.assert_close(found.latents_BTD[0, 0], expected_D)
    assert embedder.identity.hop_length == 0
    short = embedder.embed(wave_T[None, :7_999], torch.tensor([7_999]))
    assert short.lengths_B.tolist() == [0]


def test_resemblyzer_hears_windows_and_loudness_does_not_matter_above_its_target(noise: Noise) -> None:
    torch.manual_seed(0)
    embedder = Resemblyzer(ResemblyzerNetwork(), TokenIdentity("resemblyzer", "", "00", 16_000, 0, 0, 0, 256))
    wave_T = 0.02 * noise(40_000, 2)
    found, quieter = (embedder.embed(scale * wave_T[None], torch.tensor([40_000])) for scale in (1.0, 0.1))
    torch.testing.assert_close(found.latents_BTD, quieter.latents_BTD)
    assert float(found.latents_BTD.norm()) == pytest.approx(1.0)
    # 40,000 samples: windows at frames 0 and 77 are heard, of which the second reaches sample 37,920.
    cut = embedder.embed(wave_T[None, :38_200], torch.tensor([38_200]))
    assert float(torch.nn.functional.cosine_similarity(cut.latents_BTD, found.latents_BTD, dim=-1)) > 0.99


def test_resemblyzer_is_the_packages(noise: Noise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own weights, against its own encoder; silence is not trimmed."""
    if importlib.util.find_spec("resemblyzer") is None:
        pytest.skip("needs the package resemblyzer (make bench installs it)")
    # librosa refuses to be imported where numba can write neither beside it nor at home.
    monkeypatch.setattr(pytest.importorskip("numba").config, "CACHE_DIR", str(tmp_path))
    voice_encoder = pytest.importorskip("resemblyzer")
    embedder = load_embedder(EmbedderSource("speaker", "resemblyzer"))
    encoder = voice_encoder.VoiceEncoder("cpu", verbose=False)
    for samples in (8_000, 26_000, 61_234):
        wave_T = noise(samples, samples)
        expected_D = encoder.embed_utterance(np.array(wave_T))
        found = embedder.embed(wave_T[None], torch.tensor([samples]))
        np.testing.assert_allclose(found.latents_BTD[0, 0].numpy(), expected_D, atol=1e-4)


def test_refusals(wavlm_directory: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pcm-16khz codes samples; it has no codebooks of vectors"):
        load_embedder(EmbedderSource("codec", "pcm-16khz"))
    with pytest.raises(ValueError, match="mill-16khz has no latents; kind latents needs a RepCodec"):
        load_embedder(EmbedderSource("latents", "mill-16khz"))
    with pytest.raises(ValueError, match="model is empty; kind speaker needs one"):
        EmbedderSource("speaker")
    with pytest.raises(ValueError, match="amphion/MaskGCT reads normalised features; statistics must name"):
        load_embedder(EmbedderSource())
    (tmp_path / "config.json").write_bytes((wavlm_directory / "config.json").read_bytes())
    with pytest.raises(FileNotFoundError, match=r"has none of model\.safetensors"):
        load_embedder(EmbedderSource("speaker", str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be read"):
        load_embedder(EmbedderSource("speaker", str(tmp_path)))
