"""Data parallelism over torch.distributed, or nothing at all in a single process.

Gradients are summed after the last micro-batch instead of inside the backward pass: a layer that only some
ranks used (MaskGCT's S2A trains one codebook's head per batch), several micro-batches and uneven counts are
then exact, where DistributedDataParallel needs `find_unused_parameters` and still loses gradients
accumulated under `no_sync`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainers.sharding import is_sharded

BUCKET_BYTES = 32 << 20


@dataclass(frozen=True)
class Parallel:
    """This process's place among the ranks."""

    rank: int = 0
    world: int = 1

    @staticmethod
    def current() -> Parallel:
        """From the initialised process group, or a single process."""
        if dist.is_available() and dist.is_initialized():
            return Parallel(dist.get_rank(), dist.get_world_size())
        return Parallel()

    def sum(self, values: Tensor) -> Tensor:
        """`values` added up over the ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world > 1:
            dist.barrier()

    def union(self, names: Iterable[str]) -> list[str]:
        """The sorted names of all ranks."""
        gathered: list[list[str]] = [[] for _ in range(self.world)]
        if self.world == 1:
            gathered = [list(names)]
        else:
            dist.all_gather_object(gathered, list(names))
        return sorted({name for found in gathered for name in found})

    def broadcast(self, module: nn.Module) -> None:
        """Give every rank the parameters and buffers of rank 0."""
        if self.world > 1:
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor.detach(), src=0)

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up gradients over the ranks; one that no rank has stays None, so that its optimiser state
        rests.
        """
        if self.world == 1:
            return
        everything = [p for p in parameters if not is_sharded(p)]
        if not everything:
            return
        used = torch.tensor([float(p.grad is not None) for p in everything], device=everything[0].device)
        held = [p for p, n in zip(everything, self.sum(used).tolist(), strict=True) if n]
        for bucket in _buckets(held):
            flat = self.sum(torch.cat([_gradient(p).reshape(-1) for p in bucket]))
            at = 0
            for parameter in bucket:
                size = parameter.numel()
                parameter.grad = flat[at : at + size].view_as(parameter)
                at += size


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _buckets(parameters: list[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of parameters of one type, about `BUCKET_BYTES` each."""
    bucket: list[Tensor] = []
    size_bytes = 0
    for parameter in parameters:
        if bucket and (size_bytes > BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, size_bytes = [], 0
        bucket.append(parameter)
        size_bytes += parameter.numel() * parameter.element_size()
    if bucket:
        yield bucket
