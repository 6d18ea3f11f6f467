"""Random numbers of a sampler: B rows, T frames, k candidate codes."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor


class Draws(Protocol):
    """Where a sampler's uniform numbers in [0, 1) come from.

    `lengths` says how many frames of each row need numbers: 0 for a row that is already finished, which
    must then take none from its stream. What stands beyond a row's length is never used.
    """

    def tokens(self, lengths: Sequence[int], candidates_BTk: Tensor, n_codes: int) -> Tensor:
        """One number for each candidate code, float32 (B, T, k); `candidates_BTk` are ids below `n_codes`."""

    def scores(self, lengths: Sequence[int], n_frames: int) -> Tensor:
        """One number for each frame, float32 (B, T)."""


class RowDraws:
    """One generator a row, so that what a row draws does not depend on its batch."""

    def __init__(self, seeds: Sequence[int], device: torch.device | str) -> None:
        self.device = torch.device(device)
        self.generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]

    def tokens(self, lengths: Sequence[int], candidates_BTk: Tensor, n_codes: int) -> Tensor:  # noqa: ARG002
        """See Draws. Draws for the candidates only: with 21 of 1024 codes that is 49 times fewer."""
        return self._uniform(lengths, candidates_BTk.shape[1:])

    def scores(self, lengths: Sequence[int], n_frames: int) -> Tensor:
        """See Draws."""
        return self._uniform(lengths, (n_frames,))

    def _uniform(self, lengths: Sequence[int], shape: Sequence[int]) -> Tensor:
        numbers = torch.zeros(len(lengths), *shape, device=self.device)
        for row, (length, generator) in enumerate(zip(lengths, self.generators, strict=True)):
            numbers[row, :length].uniform_(generator=generator)
        return numbers


def row_seeds(generator: torch.Generator, n_rows: int) -> list[int]:
    """Take one seed a row from `generator`, row after row: cutting a list into batches changes nothing."""
    device = generator.device
    return [int(torch.randint(2**62, (), generator=generator, device=device)) for _ in range(n_rows)]


def gumbel(uniform: Tensor, eps: float = 1e-10) -> Tensor:
    """Turn uniform numbers into standard Gumbel noise."""
    return -torch.log(-torch.log(uniform + eps) + eps)
