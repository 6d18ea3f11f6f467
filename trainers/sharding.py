"""Fully sharded training (FSDP2): every rank keeps a slice of the weights, gradients and optimiser state.

Checkpoints hold whole tensors, so a run may continue sharded or not, and on another number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from models.checkpoints import Values


def shard(networks: Iterable[nn.Module]) -> None:
    """Shard each network, and within it every layer of a stack (`nn.ModuleList`) as its own unit."""
    for network in networks:
        stacks = [m for m in network.modules() if isinstance(m, nn.ModuleList)]
        for module in [*(layer for stack in stacks for layer in stack), network]:
            unit = fully_shard(module)
            # The loop divides by the summed counts of all ranks itself.
            unit.set_gradient_divide_factor(1.0)
            unit.set_force_sum_reduction_for_comms(True)


def local(tensor: Tensor) -> Tensor:
    """This rank's slice of a sharded tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """True if ranks hold different slices of it."""
    return isinstance(tensor, DTensor)


def whole(state: Any) -> Any:
    """A copy of a nested state with sharded tensors put together; all ranks must call it with the same keys."""
    if isinstance(state, DTensor):
        return state.full_tensor().detach()
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [whole(value) for value in state]
    return state


def like(value: Any, reference: Any) -> Any:
    """`value` sharded as `reference` is, where it is and the shapes agree."""
    if isinstance(reference, DTensor) and isinstance(value, Tensor) and value.shape == reference.shape:
        return distribute_tensor(value.to(reference.device), reference.device_mesh, reference.placements)
    return value


def load_module(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """`load_state_dict` of whole tensors, strict."""
    own = module.state_dict()
    module.load_state_dict({name: like(value, own.get(name)) for name, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, state: Values) -> None:
    """`load_state_dict` of whole tensors."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    sliced = {
        index: {key: like(value, parameters[index]) for key, value in values.items()}
        for index, values in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": sliced})


def gradient_norm(gradients: Sequence[Tensor]) -> Tensor:
    """Global 2-norm of gradients, float32 scalar, the same on all ranks."""
    norms = torch.stack([local(gradient).float().norm() for gradient in gradients])
    sliced = torch.tensor([is_sharded(gradient) for gradient in gradients], device=norms.device)
    total = norms[sliced].square().sum()
    if any(map(is_sharded, gradients)):
        dist.all_reduce(total)
    return (total + norms[~sliced].square().sum()).sqrt()


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Whole weights on every rank, for calls that bypass the networks' `forward`."""
    units = [unit for unit in module.modules() if isinstance(unit, FSDPModule)]
    for unit in units:
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
