"""Training of Descript's convolutional codec (DAC): adversarial, with factorised residual vector quantization.

Losses, weights and the start of the network are those of descript-audio-codec 1.0.0 (conf/final, scripts/train.py).
Deviations: the generator is updated before the discriminators; the rows whose last levels are dropped are drawn at
random instead of being the first ones; recordings vary in level and speed instead of being brought to one level.

Shape suffixes: B batch, N samples, Q codebooks, D channels, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoints import Record
from models.codecs.dac.network import (
    ConvolutionalCodec,
    ConvolutionalModel,
    build_network,
    build_trainable,
    load_directory,
    plain_weights,
    save_directory,
    take_weights,
)
from models.codecs.quantizer import perplexity
from trainers.data import CodesBatch
from trainers.objectives import DataInfo, Objective, Sample, mean_metric
from trainers.objectives.codec import before_and_after
from trainers.objectives.waveform import Reconstruction, WaveformObjective, WaveformSettings


@dataclass(frozen=True)
class ConvolutionalSettings(WaveformSettings):
    """Name of the codec, and the weights of the quantizer's losses."""

    name: str = "dac"
    """What the exported codec is called."""
    edition: str = "1"
    commitment_weight: float = 0.25
    """Squared distance between latents and codes, pulling the latents."""
    codebook_weight: float = 1.0
    """The same, pulling the codes."""
    level_dropout: float = 0.5
    """Share of rows that are decoded from a random number of first levels, so that those decode too."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("commitment_weight", "codebook_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must not be negative")
        if not 0 <= self.level_dropout <= 1:
            raise ValueError(f"level_dropout is {self.level_dropout}: must be in [0, 1]")


class ConvolutionalObjective(WaveformObjective):
    """Reconstruction by a `DacModel`; latents, codes and waves learn by gradients."""

    model_config = ConvolutionalModel
    settings = ConvolutionalSettings

    def __init__(self, model: ConvolutionalModel, settings: ConvolutionalSettings, data: DataInfo) -> None:
        config = model.resolve()
        super().__init__(settings, data, config.hop_length)
        if config.sample_rate != data.sample_rate:
            raise ValueError(
                f"preset {model.preset} works at {config.sample_rate} Hz, but the data ({data.codec}) are at "
                f"{data.sample_rate} Hz: prepare them with pcm-{config.sample_rate // 1000}khz, or take a preset of "
                "their rate"
            )
        self.config, self.choices = config, settings
        self.network: Any = build_trainable(config)

    def networks(self) -> Sequence[nn.Module]:
        """The convolutional parts."""
        return [self.network.encoder, self.network.decoder]

    def generator_groups(self) -> list[Record]:
        """The convolutional parts, and the quantizer, which is never sharded."""
        convolutional = [p for network in self.networks() for p in network.parameters()]
        return [{"params": convolutional}, {"params": list(self.network.quantizer.parameters())}]

    def reconstruct(self, wave_BN: Tensor, generator: torch.Generator) -> Reconstruction:
        """Through all levels, in training through fewer for some rows."""
        latents_BDT = self.network.encoder(wave_BN[:, None])
        levels_B = self._levels(wave_BN.shape[0], generator).to(wave_BN.device)
        with torch.autocast(wave_BN.device.type, enabled=False):
            quantized = quantize(self.network.quantizer, latents_BDT.float(), levels_B)
        made_BN = self.network.decoder(quantized.vectors_BDT)[:, 0]
        choices = self.choices
        losses = {
            "commitment": (choices.commitment_weight, quantized.commitment),
            "codebook": (choices.codebook_weight, quantized.codebook),
        }
        return Reconstruction(made_BN, losses, self._code_metrics(quantized.codes_BQT))

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a codec directory, ours or the Hub's, of the same sizes."""
        codec = load_directory(directory)
        if codec.config != self.config:
            raise ValueError(f"{directory} holds a codec of {codec.config}, not of {self.config}")
        take_weights(self.network, codec.network.state_dict())

    def samples(self, batch: CodesBatch, generator: torch.Generator) -> list[Sample]:  # noqa: ARG002
        """Every row before and after the codec."""
        network = build_network(self.config)
        network.load_state_dict(plain_weights(self.network))
        codec = ConvolutionalCodec(
            network.to(batch.codes_BQT.device),
            self.config,
            self.choices.name,
            self.choices.edition,
            "training",
        )
        return before_and_after(codec, batch)

    def export(self, directory: Path) -> None:
        """Write a codec directory for `models.codecs.load_codec`."""
        save_directory(self.network, self.config, directory, self.choices.name, self.choices.edition)

    def _levels(self, rows: int, generator: torch.Generator) -> Tensor:
        """Number of levels (B,) that each row is decoded from: all of them in evaluation."""
        levels = self.config.n_codebooks
        if not self.training:
            return torch.full((rows,), levels)
        fewer_B = torch.randint(1, levels + 1, (rows,), generator=generator)
        dropped_B = torch.rand(rows, generator=generator) < self.choices.level_dropout
        return torch.where(dropped_B, fewer_B, levels)

    def _code_metrics(self, codes_BQT: Tensor) -> dict[str, Tensor]:
        """Perplexity of every level within the batch (a batch has few frames, so it is an underestimate)."""
        size = self.config.codebook_size
        counts_QV = torch.stack(
            [torch.bincount(codes_BT.flatten(), minlength=size) for codes_BT in codes_BQT.unbind(1)]
        )
        found = enumerate(perplexity(counts_QV.float()), start=1)
        return {f"perplexity_{level}": mean_metric(value, 1.0) for level, value in found}


@dataclass(frozen=True)
class Quantized:
    """Result of the residual quantizer."""

    vectors_BDT: Tensor
    """Sum of each row's first levels; gradients pass straight through to the latents."""
    codes_BQT: Tensor
    """int64, of all levels."""
    commitment: Tensor
    """Scalar: squared distances of the levels that count, summed over levels, a mean over rows."""
    codebook: Tensor
    """The same, with gradients to the codes instead of the latents."""


def quantize(quantizer: Any, latents_BDT: Tensor, levels_B: Tensor) -> Quantized:
    """Residual quantization by the levels of a `DacModel`, each row by its own number of them.

    As in descript-audio-codec a dropped level has no loss in its row. (Transformers' own quantizer takes each level's
    mean over all rows before it masks rows, so that dropped ones count, and draws the numbers from the global state.)
    """
    residual_BDT, vectors_BDT = latents_BDT, torch.zeros_like(latents_BDT)
    codes, commitments, codebooks = [], [], []
    for level, layer in enumerate(quantizer.quantizers):
        kept_B = (level < levels_B).to(latents_BDT.dtype)
        narrow_BDT = layer.in_proj(residual_BDT)
        nearest_BDT, codes_BT = layer.decode_latents(narrow_BDT)
        commitments.append(kept_B * _distances(narrow_BDT, nearest_BDT.detach()))
        codebooks.append(kept_B * _distances(nearest_BDT, narrow_BDT.detach()))
        part_BDT = layer.out_proj(narrow_BDT + (nearest_BDT - narrow_BDT).detach())
        vectors_BDT = vectors_BDT + part_BDT * kept_B[:, None, None]
        residual_BDT = residual_BDT - part_BDT
        codes.append(codes_BT)
    commitment, codebook = (torch.stack(found).sum(dim=0).mean() for found in (commitments, codebooks))
    return Quantized(vectors_BDT, torch.stack(codes, dim=1), commitment, codebook)


def _distances(left_BDT: Tensor, right_BDT: Tensor) -> Tensor:
    return functional.mse_loss(left_BDT, right_BDT, reduction="none").mean(dim=(1, 2))


OBJECTIVES: Mapping[str, type[Objective[Any]]] = {"codec_dac": ConvolutionalObjective}
