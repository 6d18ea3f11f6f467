"""Known answers of the adversarial losses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.objectives.adversarial import (
    AdversarialSettings,
    discriminator_loss,
    feature_matching,
    generator_loss,
)


def features(*scores: float, layer: float = 0.0) -> list[list[Tensor]]:
    """One discriminator for each score: two layers of a constant, and the score."""
    return [[torch.full((2, 3), layer), torch.full((2, 5), -layer), torch.full((2, 4), s)] for s in scores]


def test_a_perfect_discriminator_has_no_loss_and_a_fooled_one_has_one_each() -> None:
    assert float(discriminator_loss(real=features(1.0, 1.0), fake=features(0.0, 0.0))) == 0.0
    assert float(discriminator_loss(real=features(1.0, 1.0), fake=features(1.0, 1.0))) == 2.0
    assert float(discriminator_loss(real=features(0.5), fake=features(0.5))) == 0.5


def test_the_generator_wants_the_score_of_real_waves() -> None:
    assert float(generator_loss(features(1.0, 1.0, 1.0))) == 0.0
    assert float(generator_loss(features(0.0, 3.0))) == 5.0


def test_feature_matching_sums_layers_without_scores_and_moves_the_made_wave_only() -> None:
    real, fake = features(1.0, 1.0, layer=0.5), features(-7.0, 9.0, layer=0.25)
    assert float(feature_matching(real, fake)) == 1.0
    assert float(feature_matching(real, features(8.0, 8.0, layer=0.5))) == 0.0
    leaves = [layer.requires_grad_() for layers in (*real, *fake) for layer in layers]
    feature_matching(real, fake).backward()
    assert [leaf.grad is not None for leaf in leaves] == [False] * 6 + [True, True, False] * 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": -1.0}, "weight is -1.0: must not be negative"),
        ({"starts_at": -1}, "starts_at is -1"),
        ({"every": 0}, "every is 0: must be at least 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdversarialSettings(**wrong)
