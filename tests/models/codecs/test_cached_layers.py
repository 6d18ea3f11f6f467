"""Layers in blocks are the published layers, wherever the blocks end."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from models.codecs import cached_layers
from models.codecs.cached_layers import (
    CachedConvolution,
    CachedTransposedConvolution,
    CachedUnit,
    keep_to_cache,
)
from models.codecs.dac.network import ConvolutionalConfig, build_network

TINY = ConvolutionalConfig(16_000, (2, 3), 2, 16, 4, encoder_channels=3, decoder_channels=8)
each_size = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_layers, "_BLOCK", 1)
    monkeypatch.setattr(cached_layers, "_SHORTEST", 16)
    torch.manual_seed(0)


@torch.no_grad()
@each_size
@given(
    st.integers(1, 70),
    st.sampled_from([(7, 1, 1, 3), (7, 1, 9, 27), (6, 3, 1, 2), (3, 2, 1, 0), (1, 1, 1, 0)]),
)
def test_convolutions(frames: int, shape: tuple[int, int, int, int]) -> None:
    kernel, stride, dilation, padding = shape
    layer = nn.Conv1d(3, 5, kernel, stride, padding, dilation)
    frames = max(frames, kernel - 2 * padding)
    x_BIT = torch.randn(2, 3, frames)
    torch.testing.assert_close(CachedConvolution(layer)(x_BIT), layer(x_BIT), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@each_size
@given(st.integers(1, 70), st.sampled_from([(4, 2, 1, 0), (6, 3, 2, 1), (5, 2, 0, 1), (16, 8, 4, 0)]))
def test_transposed_convolutions(frames: int, shape: tuple[int, int, int, int]) -> None:
    kernel, stride, padding, output_padding = shape
    layer = nn.ConvTranspose1d(3, 5, kernel, stride, padding, output_padding)
    x_BIT = torch.randn(2, 3, frames)
    expected = layer(x_BIT)
    torch.testing.assert_close(CachedTransposedConvolution(layer)(x_BIT), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gradients", [False, True])
def test_a_network_is_what_it_was(gradients: bool) -> None:
    network = build_network(TINY).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("alpha"):
            nn.init.uniform_(parameter, 0.5, 2.0)
        else:
            nn.init.normal_(parameter, std=0.3)
    cached = copy.deepcopy(network)
    keep_to_cache(cached)
    assert any(isinstance(module, CachedUnit) for module in cached.modules())
    assert {name: value.shape for name, value in cached.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }
    # Each layer reads weights that are put into it later, too.
    cached.load_state_dict(network.state_dict())
    wave_B1T, latents_BDT = torch.randn(2, 1, 6 * 31), torch.randn(2, 12, 31)
    with torch.set_grad_enabled(gradients):
        for part, given_ in (("encoder", wave_B1T), ("decoder", latents_BDT)):
            expected = network.get_submodule(part)(given_)
            atol = 1e-4 * float(expected.detach().abs().max())
            torch.testing.assert_close(cached.get_submodule(part)(given_), expected, rtol=1e-4, atol=atol)
