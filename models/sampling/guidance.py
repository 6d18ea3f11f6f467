"""Classifier-free guidance on hidden states: B rows, T frames, D channels."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """How far the conditional result is pushed away from the unconditional one."""

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
