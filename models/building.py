"""Networks built for weights that are at hand: no larger than these allow, whatever their configuration says."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

N = TypeVar("N")

_TENSOR = 1 << 16
"""A tensor of a network costs at least as much as so many elements: its module, names and hooks."""
_SPARE = 64 << 20
"""Elements that a network may have beside its weights: tables of positions, windows, filters, masks."""


class TooLargeError(ValueError):
    """A configuration that asks for a network which the weights cannot be those of."""


def built(make: Callable[[], N], weights: Iterable[Tensor]) -> N:
    """Call `make`, which builds a network for `weights`, twice: without memory first.

    ValueError, before memory is taken, where it would be far larger than its weights.
    """
    return built_within(make, sum(tensor.numel() + _TENSOR for tensor in weights))


def built_within(make: Callable[[], N], elements: int) -> N:
    """The same, for a network of about so many elements."""
    refuse_larger(make, elements)
    try:
        with no_larger_than(elements):
            return make()
    except (RuntimeError, MemoryError, OverflowError) as error:  # sizes that no tensor has
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(reason) from error


def refuse_larger(make: Callable[[], object], elements: int) -> None:
    """ValueError where `make`, which is called without memory, builds a network of far more elements."""
    try:
        with no_larger_than(elements), torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # weights are loaded into what has no memory
            make()
    except TooLargeError:
        raise
    except Exception:  # noqa: BLE001 - what else is wrong is said by who builds it
        pass


def elements_of_machine() -> int:
    """Elements of a network, in 32 bits, that takes half of this machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8


def as_stored(model: str) -> AbstractContextManager[None]:
    """`no_larger_than` the weights in the directory `model`; nothing is bounded for a name of the Hub."""
    files = [path for path in Path(model).glob("*") if path.suffix in (".safetensors", ".bin", ".pt")]
    return no_larger_than(sum(path.stat().st_size for path in files)) if files else nullcontext()


@contextmanager
def no_larger_than(elements: int) -> Iterator[None]:
    """Modules that this thread makes inside may have twice as many elements, and some more, in all."""
    most, thread, count = 2 * elements + _SPARE, threading.get_ident(), 0

    def add(_module: nn.Module, _name: str, tensor: Tensor | None) -> None:
        nonlocal count
        if tensor is None or threading.get_ident() != thread:
            return
        count += tensor.numel() + _TENSOR
        if count > most:
            raise TooLargeError(
                "its sizes make a network far larger than its weights or this machine; one is wrong"
            )

    handles = (
        hooks.register_module_parameter_registration_hook(add),
        hooks.register_module_buffer_registration_hook(add),
    )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
