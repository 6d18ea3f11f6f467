"""Classifier-free guidance, on hidden states or on velocities: B rows, T frames, D or Z channels."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """Strength of pushing the conditional result away from the unconditional one."""

    scale: float = 1.0
    """0 switches guidance off and halves the work."""
    rescale: float = 1.0
    """Share of the result whose standard deviation is brought back to that of the conditional one."""
    deviation: Literal["row", "batch"] = "row"
    """Over what the deviation is taken: the row's valid frames, or all of the batch as the reference does."""

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"guidance scale is {self.scale}; it must not be negative")
        if not 0 <= self.rescale <= 1:
            raise ValueError(f"guidance rescale is {self.rescale}; it must be between 0 and 1")
        if self.deviation not in ("row", "batch"):
            raise ValueError(f"guidance deviation is {self.deviation!r}; it must be 'row' or 'batch'")


def guide(conditional_BTD: Tensor, unconditional_BTD: Tensor, mask_BT: Tensor, guidance: Guidance) -> Tensor:
    """Combine both branches; `mask_BT` (bool) is true at valid frames."""
    guided = conditional_BTD + guidance.scale * (conditional_BTD - unconditional_BTD)
    if guidance.deviation == "batch":
        ratio = conditional_BTD.std() / guided.std()
    else:
        ratio = _row_deviation(conditional_BTD, mask_BT) / _row_deviation(guided, mask_BT)
    return guided * (guidance.rescale * ratio + (1 - guidance.rescale)).to(guided.dtype)


def _row_deviation(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Unbiased standard deviation over a row's valid frames and all channels, (B, 1, 1) float32."""
    weight_BT1 = mask_BT[..., None].float()
    count_B11 = weight_BT1.sum((1, 2), keepdim=True) * x_BTD.shape[-1]
    x = x_BTD.float()
    mean_B11 = (x * weight_BT1).sum((1, 2), keepdim=True) / count_B11
    squares_B11 = ((x - mean_B11).square() * weight_BT1).sum((1, 2), keepdim=True)
    return torch.sqrt(squares_B11 / (count_B11 - 1))


@dataclass(frozen=True)
class VelocityGuidance:
    """Guidance of a flow, of which adaptive projected guidance (arXiv 2410.02416) is the general case.

    What is guided is the prediction of the flow's end: its difference to the unconditional one is accumulated
    (`momentum`), bounded (`max_rms`) and weakened along the prediction itself (`parallel`). At the defaults that is
    plain guidance of the velocity.
    """

    scale: float = 0.0
    """Multiple of the difference that is added; 0 switches guidance off and halves the work."""
    start: float = 0.0
    stop: float = 1.0
    """Times in [start, stop] are guided; the others need one branch only."""
    parallel: float = 1.0
    """Share that is kept of the difference's part along the conditional prediction."""
    momentum: float = 0.0
    """Multiple of the differences so far that is added to each; negative in the paper."""
    max_rms: float = 0.0
    """Greatest root mean square of a row's difference, over valid frames and channels; 0: no bound."""

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise ValueError(f"guidance scale is {self.scale}; it must not be negative")
        if not 0 <= self.start <= self.stop <= 1:
            raise ValueError(f"guidance acts from {self.start} to {self.stop}; it must be a part of 0 to 1")
        if not 0 <= self.parallel <= 1:
            raise ValueError(f"guidance parallel is {self.parallel}; it must be between 0 and 1")
        if not -1 < self.momentum < 1:
            raise ValueError(f"guidance momentum is {self.momentum}; it must be between -1 and 1")
        if not self.max_rms >= 0:
            raise ValueError(f"guidance max_rms is {self.max_rms}; it must not be negative")

    def acts_at(self, time: float) -> bool:
        """True if the unconditional branch is needed at that time."""
        return self.scale > 0 and self.start <= time <= self.stop


class VelocityGuide:
    """Guides the velocities of one solution; `mask_BT` (bool) is true at valid frames."""

    def __init__(self, guidance: VelocityGuidance, mask_BT: Tensor) -> None:
        self.guidance, self._weight_BT1 = guidance, mask_BT[..., None].float()
        self._sum: Tensor | None = None

    def __call__(
        self, conditional_BTZ: Tensor, unconditional_BTZ: Tensor, state_BTZ: Tensor, time: float
    ) -> Tensor:
        """Return the guided velocity at a time before 1. No row depends on another one."""
        guidance, left = self.guidance, 1 - time
        difference = (conditional_BTZ - unconditional_BTZ).float() * left
        if guidance.momentum:
            self._sum = difference if self._sum is None else difference + guidance.momentum * self._sum
            difference = self._sum
        if guidance.max_rms:
            rms_B11 = (self._row_sum(difference.square()) / self._n_values(difference)).sqrt()
            difference = difference * (guidance.max_rms / rms_B11).clamp(max=1)
        if guidance.parallel < 1:
            predicted = state_BTZ.float() + conditional_BTZ.float() * left
            along_B11 = self._row_sum(difference * predicted) / self._row_sum(predicted.square())
            difference = difference - (1 - guidance.parallel) * along_B11 * predicted
        return conditional_BTZ + (guidance.scale / left * difference).to(conditional_BTZ.dtype)

    def _row_sum(self, values_BTZ: Tensor) -> Tensor:
        return (values_BTZ * self._weight_BT1).sum((1, 2), keepdim=True)

    def _n_values(self, values_BTZ: Tensor) -> Tensor:
        return self._weight_BT1.sum((1, 2), keepdim=True) * values_BTZ.shape[-1]
