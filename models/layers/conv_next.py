"""The Vocos backbone (arXiv 2306.00814): ConvNeXt blocks over time. B rows, T frames, D channels.

Every convolution reads zeros beyond a row, so with a mask a padded row gives what it gives alone.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

KERNEL = 7
_EPS = 1e-6


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, two pointwise layers, a learned scale; residual (arXiv 2201.03545)."""

    def __init__(self, dim: int, inner_dim: int, initial_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, _EPS)
        self.widen = nn.Linear(dim, inner_dim)
        self.narrow = nn.Linear(inner_dim, dim)
        self.scale = nn.Parameter(self.norm.weight.new_full((dim,), initial_scale))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        mixed_BTD = self.depthwise(_valid(x_BTD, mask_BT).transpose(1, 2)).transpose(1, 2)
        change_BTD: Tensor = self.narrow(functional.gelu(self.widen(self.norm(mixed_BTD))))
        return x_BTD + self.scale * change_BTD


class ConvNeXtBackbone(nn.Module):
    """Convolution to `dim` channels, LayerNorm, blocks, LayerNorm."""

    def __init__(self, in_dim: int, dim: int, inner_dim: int, n_layers: int) -> None:
        super().__init__()
        self.enter = nn.Conv1d(in_dim, dim, KERNEL, padding=KERNEL // 2)
        self.enter_norm = nn.LayerNorm(dim, _EPS)
        self.blocks = nn.ModuleList(ConvNeXtBlock(dim, inner_dim, 1 / n_layers) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim, _EPS)
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def context(self) -> int:
        """Frames on either side that a frame depends on."""
        return KERNEL // 2 * (1 + len(self.blocks))

    def forward(self, x_BTD: Tensor, mask_BT: Tensor | None = None) -> Tensor:
        """(B, T, in_dim) -> (B, T, dim); `mask_BT` is true at valid frames, None where all are."""
        entered_BTD = self.enter(_valid(x_BTD, mask_BT).transpose(1, 2)).transpose(1, 2)
        hidden_BTD = self.enter_norm(entered_BTD)
        for block in self.blocks:
            hidden_BTD = block(hidden_BTD, mask_BT)
        normed_BTD: Tensor = self.norm(hidden_BTD)
        return normed_BTD


def _valid(x_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    return x_BTD if mask_BT is None else x_BTD * mask_BT[..., None]
