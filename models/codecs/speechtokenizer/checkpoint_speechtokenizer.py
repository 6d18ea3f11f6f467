"""Checkpoints of ZhangXInFD/SpeechTokenizer@30c96fb: config.json and SpeechTokenizer.pt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.checkpoints import (
    Json,
    StateReader,
    filled,
    read_config,
    read_json,
    read_tensors,
    take_affine,
    take_normed_weight,
    under,
)
from models.codecs.speechtokenizer.config import Activation, SpeechTokenizerConfig
from models.codecs.speechtokenizer.network import SpeechTokenizerNetwork
from models.codecs.speechtokenizer.seanet import ReflectConv, ResidualUnit, SkippedLSTM, TrimmedTransposedConv
from models.layers.snake import Snake

REQUIRED = ("n_filters", "strides", "dimension", "semantic_dimension", "codebook_size", "n_q")
DEFAULTS = {
    "bidirectional": True,
    "dilation_base": 2,
    "residual_kernel_size": 3,
    "n_residual_layers": 1,
    "lstm_layers": 2,
    "activation": "ELU",
    "sample_rate": 16_000,
}
ACTIVATIONS: dict[str, Activation] = {"ELU": "elu", "Snake": "snake"}


def files(path: Path) -> tuple[Mapping[str, Json], Mapping[str, Tensor]]:
    """Read a folder with config.json and SpeechTokenizer.pt; the configuration's training settings are left out.

    ValueError names what is missing.
    """
    weights = next(iter(sorted(path.glob("*.pt"))), None)
    if weights is None or not (path / "config.json").is_file():
        raise ValueError(f"{path} must hold config.json and SpeechTokenizer.pt")
    config = read_json(path / "config.json")
    sizes = {key: config[key] for key in (*REQUIRED, *DEFAULTS) if key in config}
    return sizes, read_tensors(weights)


def convert(config: Mapping[str, Any], reader: StateReader) -> nn.Module:
    """Build our network with the weights of the reference."""
    given = read_config(reader.source, config, REQUIRED, DEFAULTS)
    if given["activation"] not in ACTIVATIONS:
        known = " or ".join(ACTIVATIONS)
        raise ValueError(f"{reader.source}: activation is {given['activation']!r}; it must be {known}")
    sizes = SpeechTokenizerConfig(
        sample_rate=given["sample_rate"],
        ratios=tuple(given["strides"]),
        n_codebooks=given["n_q"],
        codebook_size=given["codebook_size"],
        channels=given["n_filters"],
        latent_channels=given["dimension"],
        semantic_channels=given["semantic_dimension"],
        n_lstm_layers=given["lstm_layers"],
        n_residual_units=given["n_residual_layers"],
        residual_kernel_size=given["residual_kernel_size"],
        dilation_base=given["dilation_base"],
        bidirectional=given["bidirectional"],
        activation=ACTIVATIONS[given["activation"]],
    )
    network = SpeechTokenizerNetwork(sizes)
    state = {"quantizer.codebooks_QVD": _take_codebooks(reader, sizes)}
    for side in ("encoder", "decoder"):
        # The reference numbers the layers of both parts through.
        parts = [(part, network.get_submodule(f"{side}.{part}")) for part in ("front", "back")]
        layers = [(f"{part}.{name}", one) for part, layers in parts for name, one in layers.named_children()]
        for index, (ours, layer) in enumerate(layers):
            state |= under(f"{side}.{ours}", dict(_take_layer(reader, f"{side}.model.{index}", layer)))
    if isinstance(network.semantic_head, nn.Linear):
        shape = (sizes.semantic_channels, sizes.latent_channels)
        state |= under("semantic_head", take_affine(reader, "transform", *shape))
    return filled(network, state, reader)


def _take_codebooks(reader: StateReader, sizes: SpeechTokenizerConfig) -> Tensor:
    codebooks = []
    for level in range(sizes.n_codebooks):
        prefix = f"quantizer.vq.layers.{level}._codebook"
        codebooks.append(reader.take(f"{prefix}.embed", sizes.codebook_size, sizes.latent_channels))
        for name in ("embed_avg", "cluster_size", "inited"):
            reader.ignore(f"{prefix}.{name}", "running averages of the training")
    return torch.stack(codebooks)


def _take_layer(reader: StateReader, prefix: str, layer: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The state of one of our layers from the reference's layer of the same place."""
    match layer:
        case ReflectConv():
            yield from _take_convolution(reader, f"{prefix}.conv.conv", layer.conv)
        case TrimmedTransposedConv():
            yield from _take_convolution(reader, f"{prefix}.convtr.convtr", layer.conv)
        case SkippedLSTM():
            for name, parameter in layer.lstm.named_parameters():
                yield f"lstm.{name}", reader.take(f"{prefix}.lstm.{name}", *parameter.shape)
        case Snake():
            yield "alpha", reader.take(f"{prefix}.alpha", *layer.alpha.shape)
        case ResidualUnit():
            for name, inner in layer.block.named_children():
                for key, value in _take_layer(reader, f"{prefix}.block.{name}", inner):
                    yield f"block.{name}.{key}", value
            for key, value in _take_layer(reader, f"{prefix}.shortcut", layer.shortcut):
                yield f"shortcut.{key}", value


def _take_convolution(
    reader: StateReader, prefix: str, conv: nn.Conv1d | nn.ConvTranspose1d
) -> Iterator[tuple[str, Tensor]]:
    assert conv.bias is not None
    yield "conv.weight", take_normed_weight(reader, prefix, *conv.weight.shape)
    yield "conv.bias", reader.take(f"{prefix}.bias", *conv.bias.shape)
