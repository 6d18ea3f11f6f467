"""w2v-BERT's features: those of transformers, of fewer layers, the same in any batch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.layers.masks import length_mask
from models.semantic.filter_bank import frame_counts, log_mel_frames
from models.semantic.relative_attention import RelativeKeyAttention
from models.semantic.w2vbert import W2vBert, load

Noise = Callable[[int, int], Tensor]
LENGTHS = [16_000, 400, 0, 7_777, 559, 560, 719, 720, 880]


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    given = {"mean": torch.randn(32, generator=generator), "var": torch.rand(32, generator=generator) + 0.5}
    torch.save(given, tmp_path / "stats.pt")
    return tmp_path / "stats.pt"


@pytest.mark.parametrize("samples", [560, 719, 720, 879, 880, 16_000, 16_123])
def test_the_filter_bank_is_that_of_transformers(noise: Noise, samples: int) -> None:
    from transformers import SeamlessM4TFeatureExtractor

    wave_T = noise(samples, 1)
    expected = SeamlessM4TFeatureExtractor()(wave_T.numpy(), sampling_rate=16_000, return_tensors="pt")
    # What lies behind a row does not matter.
    frames_BTN, mask_BT = log_mel_frames(torch.cat([wave_T, noise(300, 2)])[None], torch.tensor([samples]))
    assert torch.equal(mask_BT, expected["attention_mask"].bool())
    filled = int(mask_BT.sum())
    torch.testing.assert_close(
        frames_BTN[:, :filled], expected["input_features"][:, :filled], rtol=0, atol=2e-4
    )
    assert frames_BTN.shape[1] == int(frame_counts(torch.tensor([samples]))[0])


@torch.no_grad()
def test_features_are_a_hidden_state_of_transformers(
    w2vbert_directory: Path, statistics: Path, noise: Noise
) -> None:
    from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertModel

    model = Wav2Vec2BertModel.from_pretrained(w2vbert_directory).eval()
    stats = torch.load(statistics, weights_only=True)
    for samples in (16_000, 5_000):
        wave_T = noise(samples, 3)
        given = SeamlessM4TFeatureExtractor()(wave_T.numpy(), sampling_rate=16_000, return_tensors="pt")
        for layer in (1, 3, 4):
            hidden_BTD = model(**given, output_hidden_states=True).hidden_states[layer]
            ours = load(w2vbert_directory, statistics, layer)
            found = ours.embed(wave_T[None], torch.tensor([samples]))
            assert found.lengths_B.tolist() == [hidden_BTD.shape[1]]
            expected_BTD = (hidden_BTD - stats["mean"]) / stats["var"].sqrt()
            torch.testing.assert_close(found.latents_BTD, expected_BTD, rtol=1e-3, atol=1e-3)


def test_layers_above_are_not_there(w2vbert_directory: Path) -> None:
    assert len(load(w2vbert_directory, layer=2).model.encoder.layers) == 2


def test_a_row_is_what_it_is_alone(w2vbert_directory: Path, noise: Noise) -> None:
    model = load(w2vbert_directory, layer=2)
    waves = [noise(length, seed) for seed, length in enumerate(LENGTHS)]
    padded_BT = torch.full((len(waves), max(LENGTHS) + 999), 0.7)
    for row_T, wave_T in zip(padded_BT, waves, strict=True):
        row_T[: len(wave_T)] = wave_T
    together = model.embed(padded_BT, torch.tensor(LENGTHS))
    assert together.lengths_B.tolist() == [49, 0, 0, 24, 0, 1, 1, 2, 2]
    for row, wave_T in enumerate(waves):
        alone = model.embed(wave_T[None], torch.tensor([len(wave_T)]))
        frames = int(alone.lengths_B[0])
        torch.testing.assert_close(
            together.latents_BTD[row, :frames], alone.latents_BTD[0], rtol=1e-4, atol=1e-4
        )
        assert not together.latents_BTD[row, frames:].any()


@settings(max_examples=30)
@given(st.integers(0, 3000))
def test_a_frame_is_begun_every_320_samples(samples: int) -> None:
    windows = max(0, (samples - 400) // 160 + 1)
    expected = 0 if windows < 2 else -(-windows // 2)
    assert frame_counts(torch.tensor([samples])).tolist() == [expected]


def test_the_identity_tells_layers_statistics_and_precision_apart(
    w2vbert_directory: Path, statistics: Path
) -> None:
    plain, normal = load(w2vbert_directory, layer=2), load(w2vbert_directory, statistics, layer=2)
    half = normal.at_precision(torch.bfloat16)
    editions = ["layer-2", "layer-2-normalised", "layer-2-normalised+bfloat16"]
    assert [one.edition for one in (plain, normal, half)] == editions
    assert plain.weights_sha256 != normal.weights_sha256
    assert (plain.sample_rate, plain.hop_length, plain.identity.channels) == (16_000, 320, 32)


def test_bfloat16_is_near(w2vbert_directory: Path, noise: Noise) -> None:
    model = load(w2vbert_directory, layer=2)
    given = noise(8000, 1)[None], torch.tensor([8000])
    exact, near = (
        model.embed(*given).latents_BTD,
        model.at_precision(torch.bfloat16).embed(*given).latents_BTD,
    )
    assert near.dtype == torch.float32
    assert float((near - exact).norm() / exact.norm()) < 0.05


def test_too_long_rows_are_refused_first(w2vbert_directory: Path) -> None:
    model = load(w2vbert_directory, layer=1)
    with pytest.raises(ValueError, match=r"a row has 960001 samples; w2v-bert-2.0 takes at most 960000"):
        model.embed(torch.zeros(1, 1).expand(1, 960_001), torch.tensor([960_001]))


def test_what_does_not_fit_is_refused(w2vbert_directory: Path, statistics: Path, tmp_path: Path) -> None:
    torch.save({"mean": torch.zeros(32), "var": torch.zeros(32)}, tmp_path / "zero.pt")
    torch.save({"mean": torch.zeros(31), "var": torch.ones(31)}, tmp_path / "short.pt")
    torch.save({"mean": torch.zeros(32)}, tmp_path / "half.pt")
    for name, message in (
        ("zero", "every var must be above 0"),
        ("short", r"mean has shape \(31,\), not \(32,\)"),
        ("half", "holds mean; it must hold mean and var"),
    ):
        with pytest.raises(ValueError, match=message):
            load(w2vbert_directory, tmp_path / f"{name}.pt", layer=2)
    with pytest.raises(ValueError, match=r"layer is 17; .* has layers 1 to 4"):
        load(w2vbert_directory)
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_bytes((w2vbert_directory / "config.json").read_bytes())
    weights = load_file(w2vbert_directory / "model.safetensors")
    save_file(
        {key: value for key, value in weights.items() if "layers.0.ffn1" not in key},
        other / "model.safetensors",
    )
    with pytest.raises(ValueError, match=r"does not fit its config.json: missing keys encoder.layers.0.ffn1"):
        load(other, layer=1)
    save_file({**weights, "head.weight": torch.zeros(1)}, other / "model.safetensors")
    with pytest.raises(ValueError, match=r"unexpected keys head.weight"):
        load(other, layer=1)


def test_it_is_an_embedder(w2vbert_directory: Path) -> None:
    from models.codecs.interface import Embedder

    model: Embedder = load(w2vbert_directory, layer=1)
    assert isinstance(model, W2vBert)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 5, 90])
def test_attention_with_shared_distances_is_that_of_transformers(
    w2vbert_directory: Path, frames: int
) -> None:
    from transformers import Wav2Vec2BertModel

    model = Wav2Vec2BertModel.from_pretrained(w2vbert_directory).eval()
    published = model.encoder.layers[0].self_attn
    published.distance_embedding.weight.normal_()
    ours = RelativeKeyAttention(published)
    x_BTD = torch.randn(2, frames, model.config.hidden_size)
    present_B11K = length_mask(torch.tensor([frames, 1 + frames // 2]), frames)[:, None, None]
    added_B11K = torch.zeros(present_B11K.shape).masked_fill(~present_B11K, -1e30)
    for mask in (None, present_B11K, added_B11K):
        expected = published(x_BTD, mask)[0]
        torch.testing.assert_close(ours(x_BTD, mask)[0], expected, rtol=1e-4, atol=1e-5)
