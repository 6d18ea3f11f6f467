"""Least-squares adversarial losses and feature matching (Mao et al. 2017; HiFi-GAN, Kong et al. 2020, equations 1 to
4), summed over discriminators and layers as descript-audio-codec does, so that its published weights apply.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from models.codecs.discriminators import DiscriminatorConfig, Features


@dataclass(frozen=True)
class AdversarialSettings:
    """Weights of the adversarial part, and when the discriminators learn. The weights are DAC's (conf/final)."""

    weight: float = 1.0
    """Of the generator's adversarial loss; 0 leaves the discriminators out altogether."""
    feature_weight: float = 2.0
    """Of the distance between the discriminators' features of the real and the made wave."""
    starts_at: int = 0
    """Step from which there is an adversarial part; before it only the reconstruction counts."""
    every: int = 1
    """The discriminators learn at every n-th step from there on."""
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        for name in ("weight", "feature_weight", "starts_at"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must not be negative")
        if self.every < 1:
            raise ValueError(f"every is {self.every}: must be at least 1")


def discriminator_loss(real: Features, fake: Features) -> Tensor:
    """Squared distance of the scores to 1 for real and to 0 for made waves, summed over discriminators."""
    return _sum(
        [
            (1 - of_real[-1].float()).square().mean() + of_fake[-1].float().square().mean()
            for of_real, of_fake in zip(real, fake, strict=True)
        ]
    )


def generator_loss(fake: Features) -> Tensor:
    """Squared distance of the made waves' scores to 1, summed over discriminators."""
    return _sum([(1 - of_fake[-1].float()).square().mean() for of_fake in fake])


def feature_matching(real: Features, fake: Features) -> Tensor:
    """Mean absolute distance of every layer's output, summed over layers and discriminators, scores left out."""
    return _sum(
        [
            functional.l1_loss(layer_fake.float(), layer_real.detach().float())
            for of_real, of_fake in zip(real, fake, strict=True)
            for layer_real, layer_fake in zip(of_real[:-1], of_fake[:-1], strict=True)
        ]
    )


def _sum(losses: list[Tensor]) -> Tensor:
    return torch.stack(losses).sum()
