"""Sizes of VALL-E's two networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from models.layers.checks import check_choice, check_heads, check_positive
from models.layers.retention import Normalisation

SIZES = {
    "quarter": {"hidden_size": 256, "n_heads": 4, "n_layers": 12},
    "half": {"hidden_size": 512, "n_heads": 8, "n_layers": 12},
    "full": {"hidden_size": 1024, "n_heads": 16, "n_layers": 12},
}
"""The presets of the published code; `full` is the paper's size. Feed-forward layers have four times the channels."""


@dataclass(frozen=True)
class ValleConfig:
    """Sizes that both networks have. The defaults are the paper's."""

    text_vocab_size: int
    """Rows of the text table."""
    codebook_size: int = 1024
    """V, of every level."""
    prompt_levels: int = 8
    """Levels of the voice prompt that are read; a prompt may have fewer."""
    n_task_tokens: int = 0
    """Further ids V, V + 1, ... of the prompt that stand for tasks, see `models.tasks`."""
    hidden_size: int = 1024
    n_layers: int = 12
    n_heads: int = 16
    dropout: float = 0.1
    retention_norm: Normalisation = "position"
    """Only with retention; `published` divides as torchscale does: cached and whole sequences then differ a little."""
    retention_chunk: int = 0
    """Only with retention: positions of a chunk when whole sequences are read; 0 reads them in parallel."""

    def __post_init__(self) -> None:
        sizes = ("text_vocab_size", "codebook_size", "prompt_levels", "hidden_size", "n_layers", "n_heads")
        check_positive(self, sizes)
        check_heads(self, rotary=True)
        check_choice(self, "retention_norm", get_args(Normalisation))
        for name in ("n_task_tokens", "retention_chunk"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must be in [0, 1)")


@dataclass(frozen=True)
class ValleARConfig(ValleConfig):
    """The first level, token by token."""

    trunk: Literal["transformer", "retnet"] = "transformer"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice(self, "trunk", ("transformer", "retnet"))


@dataclass(frozen=True)
class ValleNARConfig(ValleConfig):
    """The other levels, each in one pass."""

    n_codebooks: int = 8
    """Levels of the codec, the first included."""
    trunk: Literal["transformer", "causal_retnet"] = "transformer"
    """`causal_retnet` is the published way to build the second network with retention (e-c-k-e-r/vall-e, 2023-08): a
    frame sees earlier frames only, and nothing tells the network which level is wanted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, ["n_codebooks"])
        if self.n_codebooks < 2:
            raise ValueError("n_codebooks is 1; a codec of one level needs no second network")
        check_choice(self, "trunk", ("transformer", "causal_retnet"))
