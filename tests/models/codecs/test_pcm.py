from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.codec_sources import load_codec
from models.codecs.pcm import PCM_RATES, PcmCodec


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=200))
def test_sixteen_bit_samples_survive_exactly(samples: list[int]) -> None:
    codec = PcmCodec()
    wave_BT = torch.tensor([samples], dtype=torch.float32) / 32768
    codes = codec.encode(wave_BT, torch.tensor([len(samples)]))
    assert codes.codes_BQT[0, 0].tolist() == samples
    assert torch.equal(codec.decode(codes).wave_BT, wave_BT)


def test_louder_than_full_scale_is_clipped() -> None:
    codes = PcmCodec().encode(torch.tensor([[1.0, 3.0, -3.0]]), torch.tensor([3]))
    assert codes.codes_BQT[0, 0].tolist() == [32767, 32767, -32768]


def test_there_is_one_for_every_rate_that_codecs_are_trained_at() -> None:
    codecs = [load_codec(name) for name in PCM_RATES]
    assert [codec.sample_rate for codec in codecs] == [16_000, 24_000, 44_100]
    assert [codec.name for codec in codecs] == list(PCM_RATES)
    assert len({codec.weights_sha256 for codec in codecs}) == 3
    assert load_codec("pcm-44khz@1").sample_rate == 44_100


def test_datasets_of_before_know_the_codec_by_its_digest() -> None:
    assert PcmCodec().weights_sha256 == "04ea23b71a99104c74b8be7ac070e226e313b4f56557b36ca12465393ada802e"
