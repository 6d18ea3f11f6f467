"""Larger tables for a trained network: more prompt levels, tasks or text symbols."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch

from models.valle.ar import ValleAR
from models.valle.nar import ValleNAR
from models.valle.network import ValleNetwork

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
    take_weights(larger, module)
    return larger.train(module.training)


@torch.no_grad()
def take_weights(network: ValleNetwork, source: ValleNetwork) -> None:
    """Copy the weights of `source`, whose tables may be smaller; rows of its text table that `network` lacks are left.

    ValueError if anything else of the two configurations differs.
    """
    sizes = {name: getattr(network.config, name) for name in GROWING}
    shrunk = [name for name in GROWING[1:] if getattr(source.config, name) > sizes[name]]
    if shrunk or dataclasses.replace(source.config, **sizes) != network.config:
        raise ValueError(f"it has {source.config}, not {network.config}")
    state = source.state_dict()
    for name, tensor in network.state_dict().items():
        old = state[name]
        common = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, old.shape, strict=True))
        tensor[common] = old[common]
