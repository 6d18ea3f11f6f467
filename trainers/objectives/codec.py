"""Training of a frame-domain codec: log-magnitude and mel reconstruction through residual vector quantization.

Batches are crops of `pcm-16khz` rows, so the codes of a batch are the samples. Levels are dropped at random so that
the first k levels decode too (SoundStream, Zeghidour et al. 2021, section III-D).

Shape suffixes as in `models/codecs/mill/network.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checkpoints import Record
from models.codecs.interface import Codec
from models.codecs.mill.codec import MillCodec, load_directory, save_directory
from models.codecs.mill.network import MillConfig, MillNetwork
from models.codecs.quantizer import RunningCodebooks, cell_statistics, perplexity
from trainers.data import CodesBatch, Collator, collate_codes
from trainers.objectives import DataInfo, Loss, Objective, Sample, mean_metric
from trainers.objectives.variation import augment, samples_of


@dataclass(frozen=True)
class CodecSettings:
    """Weights of the losses, and how the recordings are varied."""

    name: str = "mill-16khz"
    """What the exported codec is called."""
    edition: str = "1"
    magnitude_weight: float = 1.0
    """L1 between log-magnitudes."""
    mel_weight: float = 2.0
    """L1 between log-mel values."""
    commitment_weight: float = 0.25
    """Squared distance between latents and their quantization, pulling the encoder only."""
    codebook_decay: float = 0.99
    """Of the running averages that the codebooks follow."""
    revive_below: float = 0.05
    """A code used less than this share of an even use is moved."""
    encoder_lr_scale: float = 1.0
    """Learning rate of the encoder relative to the decoder's; at 0 it stays as it is while the codebooks settle."""
    level_dropout: float = 0.2
    """Share of rows that are decoded from a random number of first levels."""
    initial_frames: int = 60_000
    """Frames from which the linear paths and the codebooks start."""
    gain_db: tuple[float, float] = (-15.0, 6.0)
    """Range of the random gain."""
    speeds: tuple[float, ...] = (0.88, 0.94, 1.0, 1.0, 1.0, 1.06, 1.13)
    """Playing speeds, pitch included, one of which is drawn for each batch."""

    def __post_init__(self) -> None:
        if not 0 <= self.level_dropout <= 1:
            raise ValueError(f"level_dropout is {self.level_dropout}: must be in [0, 1]")
        if self.encoder_lr_scale < 0:
            raise ValueError(f"encoder_lr_scale is {self.encoder_lr_scale}: must not be negative")
        if not 0 < self.codebook_decay < 1:
            raise ValueError(f"codebook_decay is {self.codebook_decay}: must be in (0, 1)")
        if not self.speeds or min(self.speeds) <= 0:
            raise ValueError(f"speeds is {self.speeds}: needs at least one, each above 0")


class CodecObjective(Objective[CodesBatch]):
    """Reconstruction through the quantizer; the codebooks follow running averages, not gradients."""

    model_config = MillConfig
    settings = CodecSettings

    def __init__(self, model: MillConfig, settings: CodecSettings, data: DataInfo) -> None:
        super().__init__(data)
        if (data.hop_length, data.n_codebooks) != (1, 1):
            raise ValueError(
                f"a codec is trained on samples: prepare the data with pcm-16khz, not {data.codec}"
            )
        if model.head is not None:
            raise ValueError(
                "family codec trains no waveform head: leave model.head out, or use family codec_head"
            )
        self.config, self.choices = model, settings
        self.network = MillNetwork(model)
        self.codebooks = RunningCodebooks(
            self.network.quantizer, settings.codebook_decay, settings.revive_below
        )
        self.revived, self.warm = 0, False

    @classmethod
    def collator(cls, settings: Any, data: DataInfo) -> Collator[CodesBatch]:  # noqa: ARG003
        """Samples alone."""
        return collate_codes

    @classmethod
    def derive(cls, settings: Any, data: DataInfo) -> Record:  # noqa: ARG003
        """The codec works at the sample rate of its data."""
        return {"sample_rate": data.sample_rate}

    def networks(self) -> Sequence[nn.Module]:
        """The two convolutional parts."""
        return [self.network.encoder, self.network.decoder]

    def parameter_groups(self, phase: str) -> list[Record]:  # noqa: ARG002
        """The encoder, whose moves the codebooks must follow, and the decoder."""
        network = self.network
        encoder = [*network.project.parameters(), *network.encoder.parameters()]
        decoder = [*network.expand.parameters(), *network.decoder.parameters()]
        return [{"params": encoder, "lr_scale": self.choices.encoder_lr_scale}, {"params": decoder}]

    def initialise(self, batches: Iterable[CodesBatch], generator: torch.Generator) -> None:
        """Fit the linear paths and the codebooks to the first `initial_frames` frames; not after a warm start."""
        if self.warm:
            return
        waves, frames = [], 0
        for batch in batches:
            waves.append(self._vary(self._wave(batch), generator))
            frames += waves[-1].numel() // self.config.hop_length
            if frames >= self.choices.initial_frames:
                break
        narrowest = min(wave_BN.shape[1] for wave_BN in waves)
        wave_BN = torch.cat([wave_BN[:, :narrowest] for wave_BN in waves])
        latents_ND = self.network.fit_linear(wave_BN)
        self.codebooks.initialise(self.network.quantizer, latents_ND, generator)

    def loss(self, batch: CodesBatch, phase: str, generator: torch.Generator) -> Loss:  # noqa: ARG002
        """Loss over all frames of the crops."""
        wave_BN = self._vary(self._wave(batch), generator)
        kept_B = kept_levels(len(wave_BN), self.config.n_codebooks, self.choices.level_dropout, generator)
        return self._reconstruct(wave_BN, kept_B.to(wave_BN.device), generator)

    def validate(self, batch: CodesBatch, generator: torch.Generator) -> Loss:
        """The same without variation, from all levels, and without commitment: it grows with the latents' scale, which
        says nothing about what is heard.
        """
        wave_BN = self._wave(batch)
        kept_B = torch.full((wave_BN.shape[0],), self.config.n_codebooks, device=wave_BN.device)
        found = self._reconstruct(wave_BN, kept_B, generator)
        commitment = self.choices.commitment_weight * found.metrics["commitment"][0]
        return replace(found, sum=found.sum - commitment)

    def after_step(self, step: int) -> None:  # noqa: ARG002
        """Move the codebooks."""
        self._reduce_statistics()
        self.revived = self.codebooks.update(self.network.quantizer)

    def warm_start(self, directory: Path) -> None:
        """Start from the weights of a codec directory of the same sizes."""
        codec = load_directory(directory)
        if codec.config != self.config:
            raise ValueError(f"{directory} holds a codec of {codec.config}, not of {self.config}")
        self.network.load_state_dict(codec.network.state_dict())
        self.codebooks.restart(self.network.quantizer)
        self.warm = True

    def samples(self, batch: CodesBatch, generator: torch.Generator) -> list[Sample]:  # noqa: ARG002
        """Every row before and after the codec."""
        return before_and_after(snapshot(self.network), batch)

    def export(self, directory: Path) -> None:
        """Write a codec directory for `models.codecs.load_codec`."""
        save_directory(self.network, directory, self.choices.name, self.choices.edition)

    def _wave(self, batch: CodesBatch) -> Tensor:
        """Samples (B, N) of a batch, cut to whole frames."""
        return samples_of(batch, self.config.hop_length)

    def _vary(self, wave_BN: Tensor, generator: torch.Generator) -> Tensor:
        """Another speed for the batch, another gain for each row."""
        choices = self.choices
        return augment(wave_BN, choices.speeds, choices.gain_db, self.config.hop_length, generator)

    def _reconstruct(self, wave_BN: Tensor, kept_B: Tensor, generator: torch.Generator) -> Loss:
        network, floor = self.network, self.config.log_floor
        with torch.autocast(wave_BN.device.type, enabled=False):
            magnitudes_BTSF = network.magnitudes(wave_BN)
            mel_BTM = network.log_mel(magnitudes_BTSF)
            target_BTF = torch.log(magnitudes_BTSF + floor).flatten(2)
        latents_BTD = network.encode(mel_BTM).float()
        with torch.autocast(wave_BN.device.type, enabled=False):
            quantized_BTD, codes_NQ, commitment = self._quantize(latents_BTD, kept_B, generator)
        predicted_BTF = network.decode(quantized_BTD).float()
        with torch.autocast(wave_BN.device.type, enabled=False):
            magnitude = functional.l1_loss(predicted_BTF, target_BTF)
            rebuilt_BSF = network.from_log(predicted_BTF)
            rebuilt_BTM = network.log_mel(network.by_frame(rebuilt_BSF))
            mel = functional.l1_loss(rebuilt_BTM, mel_BTM)
        choices = self.choices
        mean = (
            choices.magnitude_weight * magnitude
            + choices.mel_weight * mel
            + choices.commitment_weight * commitment
        )
        frames = mel_BTM.shape[0] * mel_BTM.shape[1]
        parts = {"magnitude_l1": magnitude, "mel_l1": mel, "commitment": commitment}
        metrics = {name: mean_metric(value * frames, frames) for name, value in parts.items()}
        metrics |= self._code_metrics(codes_NQ)
        metrics["revived_codes"] = mean_metric(mean.new_tensor(float(self.revived)), 1.0)
        return Loss(mean * frames, mean.new_tensor(float(frames)), metrics)

    def _quantize(
        self, latents_BTD: Tensor, kept_B: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Quantized latents with the gradient passed straight through, codes, commitment loss."""
        quantizer = self.network.quantizer
        latents_ND = latents_BTD.detach().flatten(0, 1)
        codes_NQ = quantizer.encode(latents_ND)
        if self.training:
            self.codebooks.observe(quantizer, latents_ND, codes_NQ, generator)
        rows, frames, channels = latents_BTD.shape
        vectors_BTQD = quantizer.lookup(codes_NQ).reshape(rows, frames, -1, channels)
        commitment = functional.mse_loss(latents_BTD, vectors_BTQD.sum(dim=2))
        quantized_BTD = sum_levels(vectors_BTQD, kept_B)
        return latents_BTD + (quantized_BTD - latents_BTD).detach(), codes_NQ, commitment

    def _code_metrics(self, codes_NQ: Tensor) -> dict[str, Tensor]:
        """Perplexity of every level within the batch (a batch has few frames, so it is an underestimate)."""
        ones_N1 = codes_NQ.new_ones(codes_NQ.shape[0], 1).float()
        size = self.config.codebook_size
        counts_QV = torch.stack([cell_statistics(ones_N1, codes_N, size)[0] for codes_N in codes_NQ.T])
        found = {f"perplexity_{level}": value for level, value in enumerate(perplexity(counts_QV), start=1)}
        return {name: mean_metric(value, 1.0) for name, value in found.items()}

    def _reduce_statistics(self) -> None:
        """Add the statistics of all ranks, and let rank 0 choose what unused codes move to."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.codebooks.batch_counts_QV)
            torch.distributed.all_reduce(self.codebooks.batch_sums_QVD)
            torch.distributed.broadcast(self.codebooks.spare_QSD, src=0)


def kept_levels(rows: int, levels: int, dropout: float, generator: torch.Generator) -> Tensor:
    """Number of first levels each row is decoded from (rows,): all, or with probability `dropout` a random number."""
    fewer_B = torch.randint(1, levels + 1, (rows,), generator=generator)
    dropped_B = torch.rand(rows, generator=generator) < dropout
    return torch.where(dropped_B, fewer_B, levels)


def sum_levels(vectors_BTQD: Tensor, kept_B: Tensor) -> Tensor:
    """The sum (B, T, D) of the vectors of each row's first levels."""
    levels_Q = torch.arange(vectors_BTQD.shape[2], device=kept_B.device)
    mask_BQ = (levels_Q < kept_B[:, None]).to(vectors_BTQD.dtype)
    return torch.einsum("btqd,bq->btd", vectors_BTQD, mask_BQ)


def before_and_after(codec: Codec, batch: CodesBatch) -> list[Sample]:
    """Every row as it is and through the codec, `original-0`, `reconstructed-0`, `original-1` and so on."""
    wave_BN = samples_of(batch, codec.hop_length)
    lengths_B = batch.lengths_B.clamp(max=wave_BN.shape[1])
    decoded = codec.decode(codec.encode(wave_BN, lengths_B))
    rows = zip(wave_BN.cpu(), decoded.wave_BT.cpu(), lengths_B.tolist(), strict=True)
    return [
        Sample(f"{name}-{row}", wave_N[:length], codec.sample_rate)
        for row, (*pair, length) in enumerate(rows)
        for name, wave_N in zip(("original", "reconstructed"), pair, strict=True)
    ]


def snapshot(network: MillNetwork, contrast: float | None = None) -> MillCodec:
    """The codec that a network is by now, with another contrast if given; training goes on without it."""
    config = network.config if contrast is None else replace(network.config, contrast=contrast)
    copied = MillNetwork(config)
    # Not the state dict, which is of slices where weights are sharded, even when they are gathered.
    held = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    copied.load_state_dict({key: held[key] for key in copied.state_dict()})
    return MillCodec(copied.to(network.mean_M.device), "training", "", "")
