"""Waves to semantic codes: rows stand alone, latents decide codes, and the identity holds all that makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.codecs.interface import Codes, Latents
from models.semantic.repcodec import RepCodec, RepCodecConfig
from models.semantic.tokenizer import SemanticTokenizer
from models.semantic.w2vbert import load

Noise = Callable[[int, int], Tensor]
TINY = RepCodecConfig(
    feature_size=32, codebook_size=16, latent_size=4, hidden_size=12, feed_forward_size=16, n_layers=2
)


@pytest.fixture
def repcodec() -> RepCodec:
    torch.manual_seed(0)
    network = RepCodec(TINY)
    for name, parameter in network.named_parameters():
        if "weight" in name and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return network


@pytest.fixture
def tokenizer(w2vbert_directory: Path, repcodec: RepCodec) -> SemanticTokenizer:
    return SemanticTokenizer(load(w2vbert_directory, layer=2), repcodec, "sha")


def test_codes_of_a_row_do_not_depend_on_its_batch(tokenizer: SemanticTokenizer, noise: Noise) -> None:
    waves = [noise(length, seed) for seed, length in enumerate([16_000, 0, 7_777])]
    padded_BT = torch.full((3, 17_000), 0.7)
    for row_T, wave_T in zip(padded_BT, waves, strict=True):
        row_T[: len(wave_T)] = wave_T
    codes = tokenizer.encode(padded_BT, torch.tensor([16_000, 0, 7_777]))
    assert codes.codes_BQT.shape == (3, 1, 49)
    assert codes.lengths_B.tolist() == [49, 0, 24]
    assert len(codes.codes_BQT.unique()) > 2
    for row, wave_T in enumerate(waves):
        alone = tokenizer.encode(wave_T[None], torch.tensor([len(wave_T)]))
        assert torch.equal(codes.codes_BQT[row, :, : alone.codes_BQT.shape[2]], alone.codes_BQT[0])


def test_latents_decide_codes(tokenizer: SemanticTokenizer, noise: Noise) -> None:
    given = noise(16_000, 1)[None], torch.tensor([16_000])
    latents = tokenizer.encode_latents(*given)
    assert latents.latents_BTD.shape == (1, 49, 4)
    assert torch.equal(tokenizer.quantize(latents).codes_BQT, tokenizer.encode(*given).codes_BQT)
    louder = Latents(3 * latents.latents_BTD, latents.lengths_B)
    assert torch.equal(tokenizer.quantize(louder).codes_BQT, tokenizer.quantize(latents).codes_BQT)


def test_padding_of_latents_is_nothing(tokenizer: SemanticTokenizer, noise: Noise) -> None:
    given = torch.stack([noise(16_000, 1), noise(16_000, 2)]), torch.tensor([16_000, 8_000])
    latents = tokenizer.encode_latents(*given)
    alone = tokenizer.encode_latents(given[0][1:, :8_000], given[1][1:])
    frames = int(alone.lengths_B[0])
    torch.testing.assert_close(latents.latents_BTD[1, :frames], alone.latents_BTD[0], rtol=1e-3, atol=1e-4)
    assert not latents.latents_BTD[1, frames:].any()
    assert not tokenizer.quantize(latents).codes_BQT[1, :, frames:].any()


def test_codes_stand_for_features(tokenizer: SemanticTokenizer) -> None:
    codes_BQT = torch.randint(0, 16, (2, 1, 9))
    features = tokenizer.reconstruct(Codes(codes_BQT, torch.tensor([9, 4])))
    alone = tokenizer.reconstruct(Codes(codes_BQT[1:, :, :4], torch.tensor([4])))
    torch.testing.assert_close(features.latents_BTD[1, :4], alone.latents_BTD[0])
    assert features.latents_BTD.shape == (2, 9, 32)
    assert not features.latents_BTD[1, 4:].any()
    with pytest.raises(ValueError, match="codes range from 16 to 16"):
        tokenizer.reconstruct(Codes(torch.full((1, 1, 1), 16), torch.tensor([1])))


def test_the_identity_holds_features_metric_and_weights(w2vbert_directory: Path, repcodec: RepCodec) -> None:
    features = load(w2vbert_directory, layer=2)
    one = SemanticTokenizer(features, repcodec, "sha")
    assert (one.name, one.edition) == ("repcodec", "w2v-bert-2.0-layer-2")
    assert (one.n_codebooks, one.codebook_size, one.latents.channels) == (1, 16, 4)
    others = [
        SemanticTokenizer(features, repcodec, "other"),
        SemanticTokenizer(features, repcodec, "sha", metric="euclidean"),
        SemanticTokenizer(load(w2vbert_directory, layer=1), repcodec, "sha"),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == 4
    # Codes differ by metric, latents do not.
    assert others[1].latents == one.latents


def test_features_of_other_channels_are_refused(w2vbert_directory: Path) -> None:
    other = RepCodec(
        RepCodecConfig(feature_size=31, codebook_size=4, hidden_size=4, feed_forward_size=4, n_layers=1)
    )
    with pytest.raises(
        ValueError, match=r"repcodec reads features of 31 channels; w2v-bert-2.0@layer-2 has 32"
    ):
        SemanticTokenizer(load(w2vbert_directory, layer=2), other, "sha")
