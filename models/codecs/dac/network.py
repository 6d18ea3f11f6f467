"""Descript's convolutional codec (DAC, Kumar et al. 2023) behind the codec interface.

The layers are Hugging Face's `DacModel`, which are those of descript-audio-codec; directories of the Hub
(`model_type: dac`) load by their path. One deviation: a decoder's ratio that is odd gets the output padding that makes
a frame a whole hop; without it descript/dac_16khz returns 8 samples less than it was given.

Shape suffixes: B batch, T samples of a wave or frames of codes, Q codebooks, D channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from models.codecs import files
from models.codecs.cached_layers import keep_to_cache
from models.codecs.chunking import in_pieces
from models.codecs.dac import descript
from models.codecs.interface import Codes, Context, Wave
from models.codecs.rows import RowCodec
from models.codecs.strided_encoder import UNIT_REACH, encoder_context

KIND = "dac"
_PIECE_VALUES = 7 * 2**20
"""Of a layer at the sample rate, on a CPU: glibc gives blocks above 32 MiB back to the kernel after every use."""


@dataclass(frozen=True)
class ConvolutionalConfig:
    """Sizes of the codec."""

    sample_rate: int
    """Hz."""
    ratios: tuple[int, ...]
    """Strides of the encoder's blocks; the hop is their product."""
    n_codebooks: int
    codebook_size: int = 1024
    """A power of two."""
    codebook_channels: int = 8
    """Channels in which codes are compared (factorised codes)."""
    encoder_channels: int = 64
    """Of the first layer; each block doubles them."""
    decoder_channels: int = 1536
    """Of the first layer; each block halves them."""

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_codebooks", "codebook_channels", "encoder_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be at least 1")
        if not self.ratios or min(self.ratios) < 2:
            raise ValueError(f"ratios is {self.ratios}: needs at least one, each at least 2")
        if self.codebook_size < 2 or self.codebook_size & (self.codebook_size - 1):
            raise ValueError(f"codebook_size is {self.codebook_size}: must be a power of two")
        if self.decoder_channels < 1 or self.decoder_channels % 2 ** len(self.ratios):
            raise ValueError(
                f"decoder_channels is {self.decoder_channels}: must be a multiple of {2 ** len(self.ratios)}, "
                f"for each of the {len(self.ratios)} blocks halves them"
            )

    @property
    def hop_length(self) -> int:
        """Samples a frame."""
        return math.prod(self.ratios)

    @property
    def encoder_context(self) -> int:
        """Frames to each side that a frame's latents depend on."""
        return encoder_context(self.ratios)

    @property
    def decoder_context(self) -> int:
        """Frames to each side that a frame's samples depend on."""
        step = self.hop_length
        reach = 3 * step + 3
        for ratio in reversed(self.ratios):
            reach += step + UNIT_REACH * (step // ratio)
            step //= ratio
        return -(-reach // self.hop_length)


PRESETS: dict[str, ConvolutionalConfig] = {
    # descriptinc/descript-audio-codec, conf/final/{16khz,24khz,44khz}.yml: 6, 24 and 8 kbit/s.
    "16khz": ConvolutionalConfig(16_000, (2, 4, 5, 8), n_codebooks=12),
    "24khz": ConvolutionalConfig(24_000, (2, 4, 5, 8), n_codebooks=32),
    "44khz": ConvolutionalConfig(44_100, (2, 4, 8, 8), n_codebooks=9),
    # The unofficial MaskGCT's tokenizer: 44.1 kHz, hop 2048, trained with stable-audio-tools, whose configuration of
    # that hop (dac_2048_32_vae.json) has these strides; codebooks as in its published systems. 1.9 kbit/s.
    "44khz-2048": ConvolutionalConfig(44_100, (4, 8, 8, 8), n_codebooks=9),
}


@dataclass(frozen=True)
class ConvolutionalModel:
    """A preset, and sizes that differ from it."""

    preset: Literal["16khz", "24khz", "44khz", "44khz-2048"] = "16khz"
    """Sample rate and sizes, see PRESETS."""
    ratios: tuple[int, ...] | None = None
    """This and the following: the preset's if absent."""
    n_codebooks: int | None = None
    codebook_size: int | None = None
    codebook_channels: int | None = None
    encoder_channels: int | None = None
    decoder_channels: int | None = None

    def __post_init__(self) -> None:
        self.resolve()

    def resolve(self) -> ConvolutionalConfig:
        """All sizes. ValueError for those that make no codec."""
        given = {name: value for name, value in vars(self).items() if name != "preset" and value is not None}
        return replace(PRESETS[self.preset], **given)


class ConvolutionalCodec(RowCodec):
    """A row is encoded with a receptive field of zeros behind its last whole frame, so that what would lie behind it
    does not matter.
    """

    def __init__(
        self, network: nn.Module, config: ConvolutionalConfig, name: str, edition: str, weights_sha256: str
    ) -> None:
        self._identify(
            (name, edition, weights_sha256),
            (config.sample_rate, config.hop_length),
            (config.n_codebooks, config.codebook_size),
            config.encoder_channels * 2 ** len(config.ratios),
        )
        self.config = config
        self.context = Context(config.encoder_context, config.decoder_context)
        self.network: Any = network.float().eval().requires_grad_(False)
        self.device = next(network.parameters()).device
        self.piece_frames = self._usual_piece()
        if self.device.type == "cpu":
            keep_to_cache(network)
            widest = max(config.encoder_channels, config.decoder_channels >> len(config.ratios))
            self.piece_frames = max(1, _PIECE_VALUES // (widest * config.hop_length))

    def decode(self, codes: Codes) -> Wave:
        """Codes (B, k, T), or (1, B, k, T) as choiHkk/maskgct's DAC wrapper makes them -> waves."""
        return super().decode(Codes(_three_axes(codes.codes_BQT), codes.lengths_B))

    def embed(self, codes_BQT: Tensor, first_level: int = 0) -> Tensor:
        """Codes as for `decode` -> the sum of their vectors (B, D, T)."""
        return super().embed(_three_axes(codes_BQT), first_level)

    def _encoded(self, wave_T: Tensor) -> Iterator[Tensor]:
        hop, context = self.hop_length, self.config.encoder_context
        frames = -(-len(wave_T) // hop)
        return in_pieces(
            lambda piece_T: self.network.encoder(piece_T[None, None])[0],
            functional.pad(wave_T, (0, (frames + context) * hop - len(wave_T))),
            piece=self.piece_frames,
            context=context,
            values_per_frame=hop,
            frames=frames,
        )

    def _decode_piece(self, latents_DT: Tensor) -> Tensor:
        wave_T: Tensor = self.network.decoder(latents_DT[None])[0, 0]
        return wave_T

    def _quantize(self, latents_DT: Tensor) -> Tensor:
        codes_QT: Tensor = self.network.quantizer(latents_DT[None], self.n_codebooks)[1][0]
        return codes_QT

    def _lookup(self, codes_QT: Tensor, first_level: int) -> Tensor:
        levels = self.network.quantizer.quantizers[first_level : first_level + len(codes_QT)]
        vectors_DT: Tensor = sum(
            level.out_proj(level.codebook(codes_T).T[None])[0]
            for level, codes_T in zip(levels, codes_QT, strict=True)
        )
        return vectors_DT


def _three_axes(codes: Tensor) -> Tensor:
    return codes[0] if codes.dim() == 4 and len(codes) == 1 else codes


def build_network(config: ConvolutionalConfig) -> nn.Module:
    """`DacModel` of these sizes: `encoder`, `quantizer` and `decoder`, with the Hub's names of weights."""
    from transformers import DacConfig, DacModel

    network: nn.Module = DacModel(
        DacConfig(
            sampling_rate=config.sample_rate,
            downsampling_ratios=list(config.ratios),
            n_codebooks=config.n_codebooks,
            codebook_size=config.codebook_size,
            codebook_dim=config.codebook_channels,
            encoder_hidden_size=config.encoder_channels,
            decoder_hidden_size=config.decoder_channels,
        )
    )
    for module in network.modules():
        if isinstance(module, nn.ConvTranspose1d):
            module.output_padding = (module.stride[0] % 2,)
    return network


def build_trainable(config: ConvolutionalConfig) -> nn.Module:
    """The same with weights as direction and length, and descript-audio-codec's start: PyTorch's own weights (its
    `init_weights` writes to a computed weight that the next call replaces), no biases, codes of unit variance.
    """
    network = build_network(config)
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            module.reset_parameters()
            if isinstance(module, nn.Conv1d) and module.bias is not None:
                nn.init.zeros_(module.bias)
            weight_norm(module)
        elif isinstance(module, nn.Embedding):
            module.reset_parameters()
    return network


def plain_weights(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights by the names of `build_network`, directions and lengths multiplied out."""
    found = {}
    # Attributes rather than the state dict, which is of slices where weights are sharded, even when they are gathered.
    for key, _ in network.named_parameters():
        path, split, parametrized = key.partition(".parametrizations.")
        if split:
            name = parametrized.partition(".")[0]
        else:
            path, _, name = key.rpartition(".")
        found[f"{path}.{name}"] = getattr(network.get_submodule(path), name).detach()
    return found


@torch.no_grad()
def take_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put the weights of `plain_weights`, all of them, into a network of either kind."""
    for key, value in weights.items():
        path, _, name = key.rpartition(".")
        module = network.get_submodule(path)
        if parametrize.is_parametrized(module, name):
            setattr(module, name, value.to(getattr(module, name)))
        else:
            getattr(module, name).copy_(value)


def save_directory(
    network: nn.Module, config: ConvolutionalConfig, directory: Path, name: str, edition: str
) -> None:
    """Write config.json and model.safetensors, float32."""
    weights = plain_weights(network)
    described = asdict(config)
    files.write(
        directory,
        kind=KIND,
        name=name,
        edition=edition,
        config=described,
        weights=weights,
        dtype=torch.float32,
    )


def load_directory(directory: Path, device: str | torch.device = "cpu") -> ConvolutionalCodec:
    """Read what `save_directory` wrote, or a directory of the Hub: descript/dac_* or parler-tts/dac_44khZ_8kbps.

    FileNotFoundError or ValueError names the file that is missing or wrong.
    """
    described = files.read_config(directory)
    ours = "kind" in described
    try:
        config = _own_config(described["config"]) if ours else hub_config(described)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{directory / files.CONFIG}: {problem}") from error
    weights, digest = files.read_weights(directory)
    if descript.is_descript(weights):
        weights = descript.to_hugging_face(weights)
    network = files.build(lambda: build_network(config), weights, directory)
    # The Hub's directories have no name of their own; their weights tell them apart.
    name = str(described["name"]) if ours else f"dac-{config.sample_rate // 1000}khz"
    edition = str(described["edition"]) if ours else files.HUB_EDITION
    return ConvolutionalCodec(network.to(device), config, name, edition, digest)


def _own_config(values: Mapping[str, Any]) -> ConvolutionalConfig:
    return ConvolutionalConfig(**{**values, "ratios": tuple(values["ratios"])})


def hub_config(values: Mapping[str, Any]) -> ConvolutionalConfig:
    """Sizes from a `DacConfig`, or from parler-tts's, which leaves out what is as in descript's 44 kHz model."""
    if "downsampling_ratios" not in values:
        known = PRESETS["44khz"]
        found = tuple(
            values[name] for name in ("sampling_rate", "num_codebooks", "codebook_size", "latent_dim")
        )
        if found != (known.sample_rate, known.n_codebooks, known.codebook_size, 1024):
            raise ValueError(
                f"sizes {found} without downsampling_ratios; only descript's 44 kHz model is known so"
            )
        return known
    ratios = tuple(values["downsampling_ratios"])
    if list(values.get("upsampling_ratios", ratios[::-1])) != list(ratios[::-1]):
        raise ValueError(
            f"upsampling_ratios is {values['upsampling_ratios']}; must be the reverse of {list(ratios)}"
        )
    return ConvolutionalConfig(
        sample_rate=values["sampling_rate"],
        ratios=ratios,
        n_codebooks=values["n_codebooks"],
        codebook_size=values["codebook_size"],
        codebook_channels=values["codebook_dim"],
        encoder_channels=values["encoder_hidden_size"],
        decoder_channels=values["decoder_hidden_size"],
    )
