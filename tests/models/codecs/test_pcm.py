from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from models.codecs.pcm import PcmCodec


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
