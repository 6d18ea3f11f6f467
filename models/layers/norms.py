"""Normalisation: B rows, N positions, D channels, C condition channels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AdaptiveRMSNorm(nn.Module):
    """RMS norm whose gain (with `shifts` also an offset) is a linear function of a condition vector, one per row.

    Starts as the plain RMS norm (gain 1, offset 0). MaskGCT's training code meant that too, but a later
    re-initialisation left its gains near 0.
    """

    def __init__(self, dim: int, condition_dim: int, eps: float = 1e-6, *, shifts: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.gain = nn.Linear(condition_dim, dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.ones_(self.gain.bias)
        self.shift = nn.Linear(condition_dim, dim) if shifts else None
        if self.shift is not None:
            nn.init.zeros_(self.shift.weight)
            nn.init.zeros_(self.shift.bias)

    def forward(self, x_BND: Tensor, condition_BC: Tensor, rows_M: Tensor | None = None) -> Tensor:
        """Normalise in float32; the result has the type of `x_BND`.

        Of packed positions, (1, M, D), `rows_M` (int64) says to which row each belongs.
        """
        x = x_BND.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)
        y = x * scale * _of_positions(self.gain(condition_BC), rows_M).float()
        if self.shift is not None:
            y = y + _of_positions(self.shift(condition_BC), rows_M).float()
        return y.to(x_BND.dtype)


def _of_positions(values_BD: Tensor, rows_M: Tensor | None) -> Tensor:
    return values_BD[:, None] if rows_M is None else values_BD.index_select(0, rows_M)[None]


class LevelNorm(nn.Module):
    """Layer norm whose gain and shift belong to the row's quantizer level (AdaLN of VALL-E's second stage).

    The normalised input is bent as in AdaNorm (arXiv 1911.07013): h becomes 2 (1 - 0.1 h) h, where no gradient goes
    through the bracket. Gains are exp(log gain); all start as 1 and shifts as 0.
    """

    def __init__(self, n_levels: int, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.log_gain_shift = nn.Embedding(n_levels, 2 * dim)
        nn.init.zeros_(self.log_gain_shift.weight)

    def forward(self, x_BND: Tensor, levels_B: Tensor) -> Tensor:
        """Normalise each position; the result has the type of `x_BND`."""
        normal_BND = F.layer_norm(x_BND, x_BND.shape[-1:], eps=self.eps)
        bent_BND = 2 * (1 - 0.1 * normal_BND).detach() * normal_BND
        log_gain_B1D, shift_B1D = self.log_gain_shift(levels_B)[:, None].chunk(2, dim=-1)
        y: Tensor = log_gain_B1D.exp() * bent_BND + shift_B1D
        return y.to(x_BND.dtype)


class ChannelNorm(nn.Module):
    """Layer norm with a gain alone, whose variance has a floor instead of an addend (Conformer of voicebox-pytorch)."""

    def __init__(self, dim: int, variance_floor: float = 1e-6) -> None:
        super().__init__()
        self.variance_floor = variance_floor
        self.gain = nn.Parameter(torch.ones(dim))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Normalise in float32; the result has the type of `x_BND`."""
        x = x_BND.float()
        centred = x - x.mean(-1, keepdim=True)
        scale = centred.square().mean(-1, keepdim=True).clamp(min=self.variance_floor).rsqrt()
        return (centred * scale * self.gain.float()).to(x_BND.dtype)
