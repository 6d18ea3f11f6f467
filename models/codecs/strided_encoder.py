"""The encoder of the Descript Audio Codec (arXiv 2306.06546), which other codecs use with sizes of their own.

The layers are those of Hugging Face's `DacEncoder`: convolution, one block for each ratio (three residual units, a
strided convolution), convolution. T samples of a wave or frames, D channels of the latents.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.checkpoints import StateReader, take_normed_weight, under

UNIT_REACH = 3 * (1 + 3 + 9)
"""Samples to each side that three residual units see: kernels of 7, dilated by 1, 3 and 9."""


def build_encoder(channels: int, ratios: Sequence[int], latent_channels: int) -> nn.Module:
    """(B, 1, T) -> (B, latent_channels, frames); `channels` of the first layer, doubled by each block."""
    from transformers import DacConfig
    from transformers.models.dac.modeling_dac import DacEncoder

    config = DacConfig(encoder_hidden_size=channels, downsampling_ratios=list(ratios))
    config.hidden_size = latent_channels
    encoder: nn.Module = DacEncoder(config)
    return encoder


def encoder_context(ratios: Sequence[int]) -> int:
    """Frames to each side that a frame's latents depend on."""
    step, reach = 1, 3
    for ratio in ratios:
        reach += (UNIT_REACH + ratio) * step
        step *= ratio
    return -(-(reach + step) // step)


def encoder_frames(samples: int, ratios: Sequence[int]) -> int:
    """Frames that come of so many samples: each strided convolution drops what does not fill its window."""
    for ratio in ratios:
        samples = max(0, (samples + 2 * -(-ratio // 2) - 2 * ratio) // ratio + 1)
    return samples


def take_encoder(
    reader: StateReader, prefix: str, channels: int, ratios: Sequence[int], latent_channels: int
) -> dict[str, Tensor]:
    """The state of an encoder that is kept by the names of descript-audio-codec 1.0.0 (dac/model/dac.py)."""
    state = under("conv1", take_convolution(reader, f"{prefix}.block.0", channels, 1, 7))
    for index, ratio in enumerate(ratios):
        ours, theirs = f"block.{index}", f"{prefix}.block.{index + 1}.block"
        for unit in range(3):
            state |= under(
                f"{ours}.res_unit{unit + 1}", take_unit(reader, f"{theirs}.{unit}.block", channels)
            )
        state |= under(f"{ours}.snake1", take_snake(reader, f"{theirs}.3", channels))
        strided = take_convolution(reader, f"{theirs}.4", 2 * channels, channels, 2 * ratio)
        state |= under(f"{ours}.conv1", strided)
        channels *= 2
    end = len(ratios) + 1
    state |= under("snake1", take_snake(reader, f"{prefix}.block.{end}", channels))
    last = take_convolution(reader, f"{prefix}.block.{end + 1}", latent_channels, channels, 3)
    return state | under("conv2", last)


def take_unit(reader: StateReader, prefix: str, channels: int) -> dict[str, Tensor]:
    """The state of a residual unit: activation, convolution, activation, convolution."""
    parts = {
        "snake1": take_snake(reader, f"{prefix}.0", channels),
        "conv1": take_convolution(reader, f"{prefix}.1", channels, channels, 7),
        "snake2": take_snake(reader, f"{prefix}.2", channels),
        "conv2": take_convolution(reader, f"{prefix}.3", channels, channels, 1),
    }
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def take_snake(reader: StateReader, prefix: str, channels: int) -> dict[str, Tensor]:
    """The state of a Snake activation."""
    return {"alpha": reader.take(f"{prefix}.alpha", 1, channels, 1)}


def take_convolution(
    reader: StateReader, prefix: str, outputs: int, inputs: int, kernel: int
) -> dict[str, Tensor]:
    """The state of a weight-normalised convolution."""
    weight = take_normed_weight(reader, prefix, outputs, inputs, kernel)
    return {"weight": weight, "bias": reader.take(f"{prefix}.bias", outputs)}
