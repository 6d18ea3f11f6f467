"""Activation checkpointing (arXiv 1604.06174): layers keep their inputs alone and are computed again backwards."""

from __future__ import annotations

from collections.abc import Iterable
from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(networks: Iterable[nn.Module]) -> int:
    """Let every layer of the networks' stacks (`blocks`) be computed again; return how many there are.

    Results, gradients, names of weights and dropout's draws stay as they are. ValueError if there is none.
    """
    modules = [module for network in networks for module in network.modules()]
    stacks = [getattr(module, "blocks", None) for module in modules]
    layers = {layer: None for stack in stacks if isinstance(stack, nn.ModuleList) for layer in stack}
    if not layers:
        raise ValueError(
            "activation_checkpointing is true: the network has no stack of layers; set it to false"
        )
    for layer in layers:
        layer.forward = MethodType(_checkpointed, layer)  # a method, so that a deep copy gets its own
    return len(layers)


def _checkpointed(layer: nn.Module, *inputs: Any, **options: Any) -> Any:
    forward = type(layer).forward
    if not torch.is_grad_enabled():
        return forward(layer, *inputs, **options)
    return checkpoint(forward, layer, *inputs, use_reentrant=False, **options)
