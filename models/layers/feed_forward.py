"""Position-wise networks."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F


class SwiGLU(nn.Module):
    """Gated feed-forward layer without biases: down(silu(gate x) * up x)."""

    def __init__(self, dim: int, inner_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * inner_dim, bias=False)
        self.down = nn.Linear(inner_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to (..., dim)."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        y: Tensor = self.down(F.silu(gate) * up)
        return y


def silu_mlp(dim: int, ratio: int) -> nn.Sequential:
    """Two linear layers with SiLU between, dim -> ratio * dim -> dim."""
    return nn.Sequential(nn.Linear(dim, ratio * dim), nn.SiLU(), nn.Linear(ratio * dim, dim))


def gelu_mlp(
    dim: int, ratio: int, dropout: float = 0.0, approximate: Literal["none", "tanh"] = "none"
) -> nn.Sequential:
    """Two linear layers with GELU and dropout between, dim -> ratio * dim -> dim."""
    return mlp(dim, ratio * dim, nn.GELU(approximate), dropout)


def mlp(dim: int, inner_dim: int, activation: nn.Module, dropout: float = 0.0) -> nn.Sequential:
    """Two linear layers with an activation and dropout between, dim -> inner_dim -> dim."""
    return nn.Sequential(
        nn.Linear(dim, inner_dim), activation, nn.Dropout(dropout), nn.Linear(inner_dim, dim)
    )
