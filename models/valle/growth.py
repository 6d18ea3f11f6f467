"""Larger tables for a trained network: more prompt levels, tasks or text symbols."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch

from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR

N = TypeVar("N", ValleAR, ValleNAR)

GROWING = ("text_vocab_size", "prompt_levels", "n_task_tokens")


@torch.no_grad()
def grown(module: N, **sizes: int) -> N:
    """A network with larger tables that computes the same for everything that the old one knew.

    `sizes` are fields of the configuration, of those in `GROWING`. Old rows are copied, new ones start as in a new
    network. ValueError for another field or a smaller size.
    """
    for name, size in sizes.items():
        if name not in GROWING:
            raise ValueError(f"{name} cannot grow; only {', '.join(GROWING)} can")
        if size < getattr(module.config, name):
            raise ValueError(f"{name} is {getattr(module.config, name)}; it cannot shrink to {size}")
    config: Any = dataclasses.replace(module.config, **sizes)  # type: ignore[arg-type]
    larger = type(module)(config)
    for name, tensor in larger.state_dict().items():
        old = module.state_dict()[name]
        tensor[tuple(slice(size) for size in old.shape)] = old
    return larger.train(module.training)
