"""Guidance of hidden states: the formula on numbers that can be followed by hand."""

from __future__ import annotations

import pytest
import torch

from models.sampling.guidance import Guidance, VelocityGuidance, VelocityGuide, guide

CONDITIONAL = torch.tensor([[[1.0, 3.0], [2.0, 6.0], [9.0, 9.0]]])
UNCONDITIONAL = torch.tensor([[[0.0, 1.0], [2.0, 2.0], [5.0, -5.0]]])
GUIDED = torch.tensor([[[3.0, 7.0], [2.0, 14.0], [17.0, 37.0]]])
"""At scale 2: conditional + 2 * difference."""
MASK = torch.tensor([[True, True, False]])


def test_the_result_goes_away_from_the_unconditional_one() -> None:
    assert torch.equal(guide(CONDITIONAL, UNCONDITIONAL, MASK, Guidance(2.0, 0.0)), GUIDED)


@pytest.mark.parametrize("rescale", [0.25, 1.0])
@pytest.mark.parametrize(("deviation", "n_frames"), [("row", 2), ("batch", 3)])
def test_its_deviation_is_brought_back(rescale: float, deviation: str, n_frames: int) -> None:
    """That of the valid frames, or of all frames as the reference takes it."""
    ratio = CONDITIONAL[:, :n_frames].std() / GUIDED[:, :n_frames].std()
    found = guide(CONDITIONAL, UNCONDITIONAL, MASK, Guidance(2.0, rescale, deviation))  # type: ignore[arg-type]
    torch.testing.assert_close(found, GUIDED * (rescale * ratio + 1 - rescale))


def test_half_precision_stays() -> None:
    found = guide(CONDITIONAL.half(), UNCONDITIONAL.half(), MASK, Guidance(2.0))
    assert found.dtype == torch.float16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((-0.1, 1.0), "guidance scale is -0.1; it must not be negative"),
        ((1.0, -0.1), "guidance rescale is -0.1; it must be between 0 and 1"),
        ((1.0, 1.1), "guidance rescale is 1.1; it must be between 0 and 1"),
    ],
)
def test_settings_are_checked(settings: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(*settings)
    Guidance(0.0, 0.0)
    Guidance(0.5, 1.0)
    with pytest.raises(ValueError, match="guidance deviation is 'rows'; it must be 'row' or 'batch'"):
        Guidance(deviation="rows")  # type: ignore[arg-type]


def test_plain_guidance_of_a_flow_that_ends_at_nothing_is_finite() -> None:
    """Nothing has no direction along which a difference could be weakened."""
    nothing = torch.zeros(1, 2, 2)
    guided = VelocityGuide(VelocityGuidance(scale=1.0), MASK[:, :2])
    assert torch.equal(guided(nothing, nothing + 1, nothing, 0.5), nothing - 1)
