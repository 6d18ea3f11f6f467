"""Checks of model sizes, shared by the configurations."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any


def check_transformer_sizes(config: Any) -> None:
    """Raise ValueError naming the field unless all integer fields are positive and heads fit rotary pairs."""
    check_positive(config, [field.name for field in dataclasses.fields(config)])
    check_heads(config, rotary=True)


def check_positive(config: Any, names: Iterable[str]) -> None:
    """Raise ValueError naming the field unless all of `names` are positive integers."""
    for name in names:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}; it must be a positive integer")


def check_heads(config: Any, *, rotary: bool) -> None:
    """Raise ValueError unless `hidden_size` divides into `n_heads` heads (of an even size if they are `rotary`)."""
    factor = 2 * config.n_heads if rotary else config.n_heads
    if config.hidden_size % factor:
        rule = f"2 * n_heads = {factor}" if rotary else f"n_heads = {factor}"
        raise ValueError(
            f"hidden_size is {config.hidden_size} with n_heads {config.n_heads}; it must be a multiple of {rule}"
        )


def check_choice(config: Any, name: str, allowed: Sequence[str]) -> None:
    """Raise ValueError unless the field is one of `allowed`."""
    if getattr(config, name) not in allowed:
        raise ValueError(f"{name} is {getattr(config, name)!r}; it must be one of {', '.join(allowed)}")


def check_shares(config: Any, names: Iterable[str]) -> None:
    """Raise ValueError naming the field unless all of `names` are between 0 and 1."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ValueError(f"{name} is {getattr(config, name)}; it must be between 0 and 1")


MOST_STEPS = 10_000
"""Of a sampler or solver; their plans are made before the first one."""


def check_steps(name: str, *steps: int) -> None:
    """Raise ValueError unless each is 1 to MOST_STEPS."""
    for step in steps:
        if step < 1:
            raise ValueError(f"{name} is {step}; it must be at least 1")
        if step > MOST_STEPS:
            raise ValueError(f"{name} is {step}; it must be at most {MOST_STEPS}")
