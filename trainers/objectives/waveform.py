"""Training of whatever makes waves: reconstruction over many resolutions, and discriminators that learn beside it.

A step updates the generator, then the discriminators, both on the same variation of the same crops: what the generator
phase made is kept for the discriminator phase, so that nothing is computed twice.

Shape suffixes: B batch, N samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from models.checkpoints import Record
from models.codecs.discriminators import Discriminators
from trainers.data import CodesBatch, Collator, collate_codes
from trainers.objectives import DataInfo, Loss, Objective, mean_metric
from trainers.objectives.adversarial import (
    AdversarialSettings,
    discriminator_loss,
    feature_matching,
    generator_loss,
)
from trainers.objectives.spectral import MelDistance, SpectralSettings, StftDistance
from trainers.objectives.variation import augment, samples_of
from trainers.plan import Position

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


@dataclass(frozen=True)
class WaveformSettings:
    """Losses of the waves, and the variation of the recordings."""

    spectral: SpectralSettings = field(default_factory=SpectralSettings)
    adversarial: AdversarialSettings = field(default_factory=AdversarialSettings)
    gain_db: tuple[float, float] = (-15.0, 6.0)
    """Range of the random gain."""
    speeds: tuple[float, ...] = (0.88, 0.94, 1.0, 1.0, 1.0, 1.06, 1.13)
    """Playing speeds, pitch included, one of which is drawn for each batch."""

    def __post_init__(self) -> None:
        if not self.gain_db[0] <= self.gain_db[1]:
            raise ValueError(f"gain_db is {self.gain_db}: the lowest gain must come first")
        if not self.speeds or min(self.speeds) <= 0:
            raise ValueError(f"speeds is {self.speeds}: needs at least one, each above 0")


@dataclass(frozen=True)
class Reconstruction:
    """A subclass's reconstruction of a batch of waves."""

    wave_BN: Tensor
    """Of the shape of the given waves; gradients pass through it."""
    losses: Mapping[str, tuple[float, Tensor]] = field(default_factory=dict)
    """Losses of its own: name -> (weight, mean as a scalar)."""
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    """Further metrics, made by `mean_metric`."""


class WaveformObjective(Objective[CodesBatch]):
    """Base of objectives that output a wave. A subclass defines `reconstruct`, and `networks` if compiling or sharding
    shall reach its parts; all its parameters besides `discriminators` are the generator's.

    Without discriminators (`adversarial.weight` 0) there is one phase.
    """

    steps_done: Tensor

    def __init__(self, settings: WaveformSettings, data: DataInfo, hop_length: int) -> None:
        """`hop_length`: waves are cut to a multiple of it. ValueError unless the data are samples."""
        super().__init__(data)
        if (data.hop_length, data.n_codebooks) != (1, 1):
            raise ValueError(
                f"a codec is trained on samples: prepare the data with pcm-16khz or the like, not {data.codec}"
            )
        self.waveform, self.adversarial, self.hop_length = settings, settings.adversarial, hop_length
        self.mel = MelDistance(settings.spectral, data.sample_rate)
        self.stft = StftDistance(settings.spectral)
        # The generator's loss depends on the step (adversarial.starts_at), so a checkpoint must hold it.
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))
        self._made: dict[Position, tuple[Tensor, Tensor]] = {}
        self.discriminators: Discriminators | None = None
        if self.adversarial.weight:
            self.discriminators = Discriminators(self.adversarial.discriminators)
            self.phases = (GENERATOR, DISCRIMINATOR)

    @classmethod
    def collator(cls, settings: Any, data: DataInfo) -> Collator[CodesBatch]:  # noqa: ARG003
        """Samples alone."""
        return collate_codes

    def reconstruct(self, wave_BN: Tensor, generator: torch.Generator) -> Reconstruction:  # noqa: ARG002
        """Waves (B, N), N a multiple of the hop -> the same through the networks. Called once per batch and step, in
        training mode, and for validation in evaluation mode; may run under autocast.
        """
        raise TypeError(f"{type(self).__name__} does not define reconstruct()")

    def networks(self) -> Sequence[nn.Module]:
        """The generator's children; discriminators stay whole on every rank and are not compiled."""
        apart = (self.discriminators, self.mel, self.stft)
        return [child for child in self.children() if child not in apart]

    def active(self, phase: str, step: int) -> bool:
        """The discriminators learn at every n-th step from `starts_at` on."""
        since = step - self.adversarial.starts_at
        return phase == GENERATOR or (since >= 0 and since % self.adversarial.every == 0)

    def parameter_groups(self, phase: str) -> list[Record]:
        """The discriminators' parameters, or `generator_groups`."""
        if phase == GENERATOR:
            return self.generator_groups()
        assert self.discriminators is not None
        return [{"params": list(self.discriminators.parameters())}]

    def generator_groups(self) -> list[Record]:
        """Groups for the generator's optimiser: all parameters but the discriminators'."""
        return [{"params": list(self._generator_parameters())}]

    def loss(self, batch: CodesBatch, phase: str, generator: torch.Generator) -> Loss:
        """The loss of a phase over the samples of the crops; the discriminator phase judges what the generator phase
        made of the same batch in the same step.
        """
        if phase == GENERATOR:
            return self._generator_loss(batch, generator)
        assert batch.position in self._made, "the generator phase comes first"
        return self._discriminator_loss(*self._made.pop(batch.position))

    def validate(self, batch: CodesBatch, generator: torch.Generator) -> Loss:
        """The mel distance, and the STFT distance as a metric, of crops without variation; no discriminator's opinion,
        which changes from step to step.
        """
        wave_BN = self._wave(batch)
        made = self.reconstruct(wave_BN, generator)
        with torch.autocast(wave_BN.device.type, enabled=False):
            mel, stft = self.mel(made.wave_BN.float(), wave_BN), self.stft(made.wave_BN.float(), wave_BN)
        own = {name: value for name, (_, value) in made.losses.items()}
        return _mean(mel, wave_BN.numel(), {"mel": mel, "stft": stft, **own}, made.metrics)

    def after_step(self, step: int) -> None:
        """Count the step, which `starts_at` is compared with. A subclass that defines this calls it too."""
        self.steps_done.fill_(step)
        self._made.clear()

    def _wave(self, batch: CodesBatch) -> Tensor:
        """Samples (B, N) of a batch, cut to whole hops."""
        return samples_of(batch, self.hop_length)

    def _generator_loss(self, batch: CodesBatch, generator: torch.Generator) -> Loss:
        settings = self.waveform
        wave_BN = augment(self._wave(batch), settings.speeds, settings.gain_db, self.hop_length, generator)
        made = self.reconstruct(wave_BN, generator)
        assert made.wave_BN.shape == wave_BN.shape
        step = int(self.steps_done)
        judged = self.discriminators is not None and step >= self.adversarial.starts_at
        if judged and self.active(DISCRIMINATOR, step):
            self._made[batch.position] = (wave_BN, made.wave_BN.detach().float())
        losses = {**self._spectral(made.wave_BN, wave_BN), **made.losses}
        if judged:
            losses |= self._judged(made.wave_BN, wave_BN)
        total = torch.stack([weight * value.float() for weight, value in losses.values() if weight]).sum()
        values = {name: value for name, (_, value) in losses.items()}
        return _mean(total, wave_BN.numel(), values, made.metrics)

    def _spectral(self, made_BN: Tensor, wave_BN: Tensor) -> dict[str, tuple[float, Tensor]]:
        """The spectral losses that have a weight."""
        weights = self.waveform.spectral
        measures = {"mel": (weights.mel_weight, self.mel), "stft": (weights.stft_weight, self.stft)}
        with torch.autocast(wave_BN.device.type, enabled=False):
            return {
                name: (weight, measure(made_BN.float(), wave_BN))
                for name, (weight, measure) in measures.items()
                if weight
            }

    def _judged(self, made_BN: Tensor, wave_BN: Tensor) -> dict[str, tuple[float, Tensor]]:
        assert self.discriminators is not None
        with torch.no_grad():
            real = self.discriminators(wave_BN)
        fake = self.discriminators(made_BN.float())
        return {
            "adversarial": (self.adversarial.weight, generator_loss(fake)),
            "feature_matching": (self.adversarial.feature_weight, feature_matching(real, fake)),
        }

    def _discriminator_loss(self, wave_BN: Tensor, made_BN: Tensor) -> Loss:
        assert self.discriminators is not None
        rows = wave_BN.shape[0]
        features = self.discriminators(torch.cat([wave_BN, made_BN]))
        real = [[layer[:rows] for layer in layers] for layers in features]
        fake = [[layer[rows:] for layer in layers] for layers in features]
        total = discriminator_loss(real, fake)
        scores = {
            f"score_{name}": torch.stack([layers[-1].float().mean() for layers in found]).mean()
            for name, found in (("real", real), ("made", fake))
        }
        return _mean(total, wave_BN.numel(), scores, {})

    def _generator_parameters(self) -> Iterator[Parameter]:
        apart = (
            {id(p) for p in self.discriminators.parameters()} if self.discriminators is not None else set()
        )
        return (p for p in self.parameters() if id(p) not in apart)


def _mean(mean: Tensor, count: int, values: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> Loss:
    """A loss over `count` samples from its mean, with named means as metrics."""
    found = {name: mean_metric(value * count, count) for name, value in values.items()}
    return Loss(mean * count, mean.new_tensor(float(count)), {**found, **metrics})
