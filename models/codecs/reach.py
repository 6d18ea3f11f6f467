"""Receptive fields of stacks of convolutions, so that rows can be cut into pieces."""

from __future__ import annotations

from torch import nn


def encoder_reach(layers: nn.Module) -> tuple[int, int]:
    """Frames to each side that a frame depends on, and samples per frame, of strided convolutions one after another.

    An upper bound: parallel branches count as if they were in line.
    """
    step, reach = 1, 0
    for layer in layers.modules():
        if isinstance(layer, nn.Conv1d):
            reach += (layer.kernel_size[0] - 1) * layer.dilation[0] * step
            step *= layer.stride[0]
    return -(-(reach + step) // step), step


def decoder_reach(layers: nn.Module, hop_length: int) -> int:
    """Frames to each side that the samples of a frame depend on; `hop_length` samples are made of a frame."""
    step, reach = hop_length, 0
    for layer in layers.modules():
        if isinstance(layer, nn.ConvTranspose1d):
            reach += -(-layer.kernel_size[0] // layer.stride[0]) * step
            step //= layer.stride[0]
        elif isinstance(layer, nn.Conv1d):
            reach += (layer.kernel_size[0] - 1) * layer.dilation[0] * step
    return -(-(reach + hop_length) // hop_length)
