"""Checks of model sizes, shared by the configurations."""

import dataclasses
from typing import Any


def check_transformer_sizes(config: Any) -> None:
    """Raise ValueError naming the field unless all integer fields are positive and heads fit rotary pairs."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{field.name} is {value!r}; it must be a positive integer")
    if config.hidden_size % (2 * config.n_heads):
        raise ValueError(
            f"hidden_size is {config.hidden_size} with n_heads {config.n_heads}; "
            f"it must be a multiple of 2 * n_heads = {2 * config.n_heads}"
        )
