"""MaskGCT's acoustic codec: sizes as published, frames as its convolutions make them, released folders."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from models.checkpoints import StateReader
from models.codecs.maskgct_acoustic.checkpoint_amphion_codec import convert, files
from models.codecs.maskgct_acoustic.network import MaskGCTAcousticConfig, MaskGCTAcousticNetwork, WaveHead
from models.codecs.strided_encoder import build_encoder, encoder_frames

RATIOS = (3, 4, 5)


def test_it_has_the_published_sizes() -> None:
    with torch.device("meta"):
        network = MaskGCTAcousticNetwork(MaskGCTAcousticConfig())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert round(counts.pop("encoder") / 1e6, 1) == 42.5
    assert round(sum(counts.values()) / 1e6, 1) == 128.2


@given(st.integers(1, 700))
def test_frames_are_those_of_the_convolutions(samples: int) -> None:
    encoder = build_encoder(1, RATIOS, 2)
    expected = encoder_frames(samples, RATIOS)
    if expected:
        with torch.no_grad():
            assert encoder(torch.zeros(1, 1, samples)).shape == (1, 2, expected)
    assert samples // 60 <= expected <= -(-samples // 60)


@given(st.integers(1, 12))
def test_an_even_spectrum_is_a_pulse_in_the_middle_of_each_frame(frames: int) -> None:
    head = WaveHead(4, fft_length=24, hop_length=6)
    torch.nn.init.zeros_(head.spectrum.weight)
    # Magnitudes of 1, and phases that put the pulse where the window is 1.
    head.spectrum.bias.data = torch.cat([torch.zeros(13), math.pi * torch.arange(13)])
    wave_BT = head(torch.randn(2, frames, 4)).detach()
    assert wave_BT.shape == (2, 6 * frames)
    by_frame_BTN = wave_BT.view(2, frames, 6)
    torch.testing.assert_close(by_frame_BTN[..., :3], torch.zeros(2, frames, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(by_frame_BTN[..., 4:], torch.zeros(2, frames, 2), rtol=0, atol=1e-5)
    # The squares of four overlapping Hann windows sum to 1.5; fewer overlap at the ends.
    inner_BT = by_frame_BTN[:, 2:-2, 3]
    torch.testing.assert_close(inner_BT, torch.full_like(inner_BT, 1 / 1.5))
    assert (by_frame_BTN[..., 3] > 0.6).all()


def test_a_released_folder_is_two_files(tmp_path: Path) -> None:
    save_file({"block.0.bias": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model_1\.safetensors"):
        files(tmp_path)
    save_file({"model.head.out.bias": torch.ones(1)}, tmp_path / "model_1.safetensors")
    config, weights = files(tmp_path)
    assert (config, set(weights)) == ({}, {"encoder.block.0.bias", "decoder.model.head.out.bias"})
    (tmp_path / "config.json").write_text(json.dumps({"encoder": {"d_model": 4}}))
    assert files(tmp_path)[0] == {"encoder": {"d_model": 4}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"encoder": {"use_tanh": True}}, "use_tanh is True; it must be False here"),
        ({"decoder": {"quantizer_type": "vq"}}, "quantizer_type is 'vq'; it must be 'fvq' here"),
        ({"decoder": {"hop_size": 240}}, "hop_size is 240; it must be 480 here"),
        ({"decoder": {"in_channels": 512}}, "in_channels is 512; it must be 256 here"),
        ({"decoder": {"vocos_layers": 3}}, "unknown configuration key 'vocos_layers'"),
        ({"encoder": {"d_model": 1}, "decoder": {"in_channel": 256}}, "encoder.block.0.weight_v is missing"),
    ],
)
def test_what_does_not_fit_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert(config, StateReader("amphion-codec", {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": ()}, r"ratios is \(\)"),
        ({"fft_length": 479}, "fft_length is 479: must be the hop 480 and an even number more"),
        ({"n_layers": 0}, "n_layers is 0; it must be a positive integer"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskGCTAcousticConfig(**change)
