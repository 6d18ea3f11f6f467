"""Sequences of a prompt and what follows it: B rows, P prompt frames, T target frames, N positions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from models.layers.masks import length_mask


class PromptedRows:
    """[prompt ; target] of each row side by side, with padding at the end only.

    Prompts and targets come padded on the right; `prompt_lengths` and `lengths` say how long they are. `mask_BN` (bool)
    is true at valid positions; `valid_BN` is the same, or None where all are, which is faster in a network.
    """

    def __init__(
        self, prompt_lengths: Sequence[int], lengths: Sequence[int], device: torch.device | str
    ) -> None:
        self.lengths = [before + after for before, after in zip(prompt_lengths, lengths, strict=True)]
        n_positions, self.n_prompt = max(self.lengths), max(prompt_lengths)
        prompt_B1 = torch.tensor(list(prompt_lengths), device=device)[:, None]
        position_N = torch.arange(n_positions, device=device)
        self.mask_BN = length_mask(torch.tensor(self.lengths, device=device), n_positions)
        self.valid_BN = None if set(self.lengths) == {n_positions} else self.mask_BN
        self.prompt_mask_BN = position_N < prompt_B1
        in_target_BN = (position_N - prompt_B1).clamp(max=max(lengths) - 1) + self.n_prompt
        self._source_BN = torch.where(self.prompt_mask_BN, position_N, in_target_BN)
        target_T = torch.arange(max(lengths), device=device)
        self._target_BT = (prompt_B1 + target_T).clamp(max=n_positions - 1)
        self.target_mask_BT = length_mask(torch.tensor(list(lengths), device=device), max(lengths))

    def join(self, prompt_BP: Tensor, target_BT: Tensor) -> Tensor:
        """(B, P, ...) and (B, T, ...) to (B, N, ...); what stands at padding is arbitrary but finite."""
        return _pick(torch.cat([prompt_BP, target_BT], dim=1), self._source_BN)

    def prompt(self, x_BN: Tensor) -> Tensor:
        """(B, N, ...) to the prompts (B, P, ...); what stands at padding is arbitrary but finite."""
        return x_BN[:, : self.n_prompt]

    def target(self, x_BN: Tensor) -> Tensor:
        """(B, N, ...) to the targets (B, T, ...); what stands at padding is arbitrary but finite."""
        return _pick(x_BN, self._target_BT)


def _pick(x_BN: Tensor, index_Bn: Tensor) -> Tensor:
    return x_BN[torch.arange(len(x_BN), device=x_BN.device)[:, None], index_Bn]
