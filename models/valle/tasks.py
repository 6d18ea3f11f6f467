"""Task tokens of the voice prompt (SpeechX, arXiv 2308.06873, in the numbering of e-c-k-e-r/vall-e, 2023-08)."""

from __future__ import annotations

import torch
from torch import Tensor

TASK_TOKENS = {
    "ns": "noise suppression",
    "sr": "speech removal",
    "tse": "target speaker extraction",
    "soe": "start of the part to edit",
    "mask": "the part to edit",
    "eoe": "end of the part to edit",
    "svc": "voice conversion",
}
"""Their ids are V, V + 1, ...; plain speech has none."""


def task_frame(name: str, codebook_size: int, n_task_tokens: int, n_levels: int) -> Tensor:
    """The prompt frame (1, Q) of a task: its token at every level.

    ValueError for a task that is unknown, or for which the network has no row.
    """
    if name not in TASK_TOKENS:
        raise ValueError(f"unknown task token {name!r}; known: {', '.join(TASK_TOKENS)}")
    number = list(TASK_TOKENS).index(name)
    if number >= n_task_tokens:
        raise ValueError(
            f"the task token {name!r} is number {number + 1}; the network has {n_task_tokens} (n_task_tokens)"
        )
    return torch.full((1, n_levels), codebook_size + number)
