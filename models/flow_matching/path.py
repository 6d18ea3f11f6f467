"""The probability path of conditional flow matching, arXiv 2210.02747 section 4.1: B rows, T frames, Z channels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Path:
    """A straight line from a prior at time 0 to the latents at time 1, both functions of the semantic embedding.

    Semantic embeddings are read by `start_from_cond` and `explicit` only; elsewhere they may be anything.
    """

    sigma: float = 0.0
    """Share of the prior that is left at time 1."""
    start_from_cond: bool = False
    """The prior is noise around the semantic embedding."""
    explicit: bool = False
    """The end is what is missing to the semantic embedding."""

    def prior(self, noise_BTZ: Tensor, semantic_BTZ: Tensor) -> Tensor:
        """State of a row at time 0, from standard normal noise."""
        return noise_BTZ + semantic_BTZ if self.start_from_cond else noise_BTZ

    def end(self, latents_BTZ: Tensor, semantic_BTZ: Tensor) -> Tensor:
        """End of the path to these latents."""
        return latents_BTZ - semantic_BTZ if self.explicit else latents_BTZ

    def latents(self, end_BTZ: Tensor, semantic_BTZ: Tensor) -> Tensor:
        """The latents of a path's end: the inverse of `end`."""
        return end_BTZ + semantic_BTZ if self.explicit else end_BTZ

    def state(self, prior_BTZ: Tensor, end_BTZ: Tensor, time: Tensor | float) -> Tensor:
        """The point at `time`, (B, 1, 1) or one for all rows."""
        return (1 - (1 - self.sigma) * time) * prior_BTZ + time * end_BTZ

    def velocity(self, prior_BTZ: Tensor, end_BTZ: Tensor) -> Tensor:
        """The derivative of `state`, the same at all times."""
        return end_BTZ - (1 - self.sigma) * prior_BTZ
