"""Codebooks of any codec, sums of their vectors, and the way back to codes and waves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.codec_sources import load_codec, load_codec_directory
from models.codecs.interface import Codec, Codes, Latents, Wave
from models.codecs.latents import codebooks, decode_latents, has_latents, latents_of, nearest_codes


class CodesOnly:
    """A codec that hides that it could decode vectors."""

    def __init__(self, codec: Codec) -> None:
        self.codec, self.identity = codec, codec.identity
        self.name, self.n_codebooks, self.codebook_size = (
            codec.name,
            codec.n_codebooks,
            codec.codebook_size,
        )

    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        return self.codec.embed(codes_BQT, first_level)

    def decode(self, codes: Codes) -> Wave:
        return self.codec.decode(codes)


@pytest.fixture(params=["tiny_directory", "convolutional_directory"])
def codec(request: pytest.FixtureRequest) -> Codec:
    directory: Path = request.getfixturevalue(request.param)
    return load_codec_directory(directory)


@pytest.fixture
def codes_BTQ(codec: Codec) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(codec.codebook_size, (2, 9, codec.n_codebooks), generator=draws)


def test_sums_of_codebook_vectors_are_what_the_codec_embeds(codec: Codec, codes_BTQ: Tensor) -> None:
    table_QVD = codebooks(codec)
    assert table_QVD.shape[:2] == (codec.n_codebooks, codec.codebook_size)
    for levels in (1, codec.n_codebooks):
        given_BTq = codes_BTQ[..., :levels]
        expected_BTD = codec.embed(given_BTq.transpose(1, 2)).transpose(1, 2)
        torch.testing.assert_close(latents_of(given_BTq, table_QVD), expected_BTD)


def test_vectors_become_the_wave_of_their_codes(codec: Codec, codes_BTQ: Tensor) -> None:
    lengths_B = torch.tensor([9, 4])
    latents = Latents(latents_of(codes_BTQ, codebooks(codec)), lengths_B)
    expected = codec.decode(Codes(codes_BTQ.transpose(1, 2), lengths_B))
    found = decode_latents(codec, latents)
    torch.testing.assert_close(found.wave_BT, expected.wave_BT, rtol=0, atol=1e-4)
    assert torch.equal(found.lengths_B, expected.lengths_B)


def test_the_nearest_codes_leave_least_level_by_level() -> None:
    table_QVD = torch.tensor([[[0.0], [10.0]], [[0.0], [3.0]]])
    codes_BTQ = nearest_codes(torch.tensor([[[2.0], [13.5], [9.0]]]), table_QVD)
    assert codes_BTQ.tolist() == [[[0, 1], [1, 1], [1, 0]]]


def test_a_codec_of_codes_alone_hears_vectors_by_their_nearest_codes(tiny_directory: Path) -> None:
    whole = load_codec_directory(tiny_directory)
    codec = CodesOnly(whole)
    assert has_latents(whole)
    assert not has_latents(codec)  # type: ignore[arg-type]
    draws = torch.Generator().manual_seed(1)
    latents = Latents(torch.randn(1, 7, codebooks(whole).shape[-1], generator=draws), torch.tensor([7]))
    codes_BTQ = nearest_codes(latents.latents_BTD, codebooks(whole))
    expected = whole.decode(Codes(codes_BTQ.transpose(1, 2), latents.lengths_B))
    found = decode_latents(codec, latents)  # type: ignore[arg-type]
    assert torch.equal(found.wave_BT, expected.wave_BT)


def test_samples_have_no_codebooks() -> None:
    with pytest.raises(ValueError, match="pcm-16khz codes samples; it has no codebooks of vectors"):
        codebooks(load_codec("pcm-16khz"))
