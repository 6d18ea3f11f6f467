"""Random numbers of samplers and of training corruptions: B rows, T frames, k candidate codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Draws(Protocol):
    """Source of a sampler's uniform numbers in [0, 1).

    `lengths` says how many frames of each row need numbers: 0 for a row that is already finished, which
    must then take none from its stream. What stands beyond a row's length is never used.
    """

    def tokens(self, lengths: Sequence[int], candidates_BTk: Tensor, n_codes: int) -> Tensor:
        """One number for each candidate code, float32 (B, T, k); `candidates_BTk` are ids below `n_codes`."""

    def scores(self, lengths: Sequence[int], n_frames: int) -> Tensor:
        """One number for each frame, float32 (B, T)."""


class RowDraws:
    """One generator per row, so that what a row draws does not depend on its batch."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def rows(self, rows: Sequence[int]) -> RowDraws:
        """The streams of some rows, shared."""
        chosen = RowDraws((), self.device)
        chosen.generators = [self.generators[row] for row in rows]
        return chosen

    def tokens(self, lengths: Sequence[int], candidates_BTk: Tensor, n_codes: int) -> Tensor:  # noqa: ARG002
        """See Draws. Draws for the candidates only: with 21 of 1024 codes that is 49 times fewer."""
        return self._uniform(lengths, candidates_BTk.shape[1:])

    def scores(self, lengths: Sequence[int], n_frames: int) -> Tensor:
        """See Draws."""
        return self._uniform(lengths, (n_frames,))

    def normal(self, lengths: Sequence[int], n_channels: int) -> Tensor:
        """See NoiseDraws."""
        numbers = torch.zeros(len(lengths), max(lengths), n_channels, device=self.device)
        for row, (length, generator) in enumerate(zip(lengths, self.generators, strict=True)):
            numbers[row, :length].normal_(generator=generator)
        return numbers

    def _uniform(self, lengths: Sequence[int], shape: Sequence[int]) -> Tensor:
        numbers = torch.zeros(len(lengths), *shape, device=self.device)
        for row, (length, generator) in enumerate(zip(lengths, self.generators, strict=True)):
            numbers[row, :length].uniform_(generator=generator)
        return numbers


class NoiseDraws(Protocol):
    """Source of a continuous sampler's noise."""

    def normal(self, lengths: Sequence[int], n_channels: int) -> Tensor:
        """Standard normal float32 (B, max(lengths), n_channels); what stands beyond a row's length is 0."""


class CorruptionDraws(Protocol):
    """Source of a corruption's random numbers, in the order in which it asks for them."""

    def rand(self, *shape: int) -> Tensor:
        """Uniform float32 in [0, 1)."""

    def randn(self, *shape: int) -> Tensor:
        """Standard normal float32."""

    def randint(self, low_B: Tensor, high_B: Tensor) -> Tensor:
        """Uniform int64 in [low, high) of each row, (B,); low where the range is empty."""

    def multinomial(self, weights_Q: Tensor, count: int) -> Tensor:
        """Indices of `weights_Q`, int64 (count,), drawn with replacement."""

    def bernoulli(self, probabilities_BT: Tensor) -> Tensor:
        """Bool (B, T)."""


class GeneratorDraws:
    """CorruptionDraws from a torch generator: the same numbers on every device that they are wanted on."""

    def __init__(self, generator: torch.Generator, device: torch.device | str | None = None) -> None:
        """`device` of the results; default: the generator's."""
        self.generator = generator
        self.device = generator.device if device is None else torch.device(device)

    def rand(self, *shape: int) -> Tensor:
        """See CorruptionDraws."""
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def randn(self, *shape: int) -> Tensor:
        """See CorruptionDraws."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def randint(self, low_B: Tensor, high_B: Tensor) -> Tensor:
        """See CorruptionDraws."""
        span_B = (high_B - low_B).clamp(min=1)
        return low_B + (self.rand(len(low_B)) * span_B).long().clamp(max=span_B - 1)

    def multinomial(self, weights_Q: Tensor, count: int) -> Tensor:
        """See CorruptionDraws."""
        weights_Q = weights_Q.to(self.generator.device)
        drawn = torch.multinomial(weights_Q, count, replacement=True, generator=self.generator)
        return drawn.to(self.device)

    def bernoulli(self, probabilities_BT: Tensor) -> Tensor:
        """See CorruptionDraws."""
        probabilities_BT = probabilities_BT.to(self.generator.device)
        return torch.bernoulli(probabilities_BT, generator=self.generator).bool().to(self.device)


def row_seeds(generator: torch.Generator, n_rows: int) -> list[int]:
    """Take one seed per row from `generator`, row after row: cutting a list into batches changes nothing."""
    device = generator.device
    return [int(torch.randint(2**62, (), generator=generator, device=device)) for _ in range(n_rows)]


def gumbel(uniform: Tensor, eps: float = 1e-10) -> Tensor:
    """Turn uniform numbers into standard Gumbel noise."""
    return -torch.log(-torch.log(uniform + eps) + eps)
