"""Weights of descript-audio-codec 1.0.0 as it releases them: `weights_*.pth`, sizes and state dict in one file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints import Json, StateReader, filled, read_config, take_normed_weight, under
from models.codecs.dac.network import ConvolutionalConfig, build_network, hub_config, save_directory
from models.codecs.strided_encoder import take_convolution, take_encoder, take_snake, take_unit

DEFAULTS = {
    "encoder_dim": 64,
    "encoder_rates": (2, 4, 8, 8),
    "latent_dim": None,
    "decoder_dim": 1536,
    "decoder_rates": (8, 8, 4, 2),
    "n_codebooks": 9,
    "codebook_size": 1024,
    "codebook_dim": 8,
    # Of training.
    "quantizer_dropout": False,
    "sample_rate": 44_100,
}


def files(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a .pth file; code in it is never run. ValueError names the file and what is wrong with it."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        return stored["metadata"]["kwargs"], stored["state_dict"]
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a file of tensors: {str(error).splitlines()[0]}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must hold state_dict and metadata.kwargs, as descript's releases do"
        ) from error


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build `DacModel` with the weights of a release."""
    sizes = _sizes(config, reader.source)
    network = build_network(sizes)
    latents = sizes.encoder_channels * 2 ** len(sizes.ratios)
    state = under("encoder", take_encoder(reader, "encoder", sizes.encoder_channels, sizes.ratios, latents))
    for level in range(sizes.n_codebooks):
        ours = theirs = f"quantizer.quantizers.{level}"
        shape = (sizes.codebook_size, sizes.codebook_channels)
        state[f"{ours}.codebook.weight"] = reader.take(f"{theirs}.codebook.weight", *shape)
        for name, outputs, inputs in (("in_proj", shape[1], latents), ("out_proj", latents, shape[1])):
            state |= under(f"{ours}.{name}", take_convolution(reader, f"{theirs}.{name}", outputs, inputs, 1))
    return filled(network, state | under("decoder", _take_decoder(reader, sizes, latents)), reader)


def save(network: nn.Module, directory: Path) -> None:
    """Write a codec directory."""
    values: Any = network.config
    config = hub_config(values.to_dict())
    save_directory(network, config, directory, f"dac-{config.sample_rate // 1000}khz", "descript")


def _sizes(config: Mapping[str, Any], source: str) -> ConvolutionalConfig:
    given = read_config(source, config, [], DEFAULTS)
    sizes = ConvolutionalConfig(
        sample_rate=given["sample_rate"],
        ratios=tuple(given["encoder_rates"]),
        n_codebooks=given["n_codebooks"],
        codebook_size=given["codebook_size"],
        codebook_channels=given["codebook_dim"],
        encoder_channels=given["encoder_dim"],
        decoder_channels=given["decoder_dim"],
    )
    latents = sizes.encoder_channels * 2 ** len(sizes.ratios)
    for name, wanted in (("decoder_rates", list(sizes.ratios[::-1])), ("latent_dim", latents)):
        found = list(given[name]) if isinstance(given[name], tuple | list) else given[name] or latents
        if found != wanted:
            raise ValueError(f"{source}: {name} is {found}; it must be {wanted} here")
    return sizes


def _take_decoder(reader: StateReader, sizes: ConvolutionalConfig, latents: int) -> dict[str, Tensor]:
    channels, end = sizes.decoder_channels, len(sizes.ratios) + 1
    state = under("conv1", take_convolution(reader, "decoder.model.0", channels, latents, 7))
    for index, ratio in enumerate(reversed(sizes.ratios)):
        ours, theirs = f"block.{index}", f"decoder.model.{index + 1}.block"
        half = channels // 2
        state |= under(f"{ours}.snake1", take_snake(reader, f"{theirs}.0", channels))
        upward = take_normed_weight(reader, f"{theirs}.1", channels, half, 2 * ratio)
        state |= under(f"{ours}.conv_t1", {"weight": upward, "bias": reader.take(f"{theirs}.1.bias", half)})
        for unit in range(3):
            state |= under(
                f"{ours}.res_unit{unit + 1}", take_unit(reader, f"{theirs}.{unit + 2}.block", half)
            )
        channels = half
    state |= under("snake1", take_snake(reader, f"decoder.model.{end}", channels))
    return state | under("conv2", take_convolution(reader, f"decoder.model.{end + 1}", 1, channels, 7))
