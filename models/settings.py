"""Frozen dataclasses from mappings, with unknown keys refused."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def dataclass_from(kind: type[T], values: Mapping[str, Any], what: str) -> T:
    """Build `kind` of `values`, lists as tuples. ValueError names an unknown key, with the nearest, or a missing one.

    `what` names the section in the message, for example "the configuration of valle_ar".
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    check_keys(values, list(fields), what)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ValueError(f"{what} lacks {name!r}")
    return kind(**{key: frozen(value) for key, value in values.items()})


def replaced(base: T, values: Mapping[str, Any], what: str) -> T:
    """`base` with `values` in place; ValueError for a key that it does not have."""
    check_keys(values, [field.name for field in dataclasses.fields(base)], what)  # type: ignore[arg-type]
    changed: T = dataclasses.replace(base, **{key: frozen(value) for key, value in values.items()})  # type: ignore[type-var]
    return changed


def with_preset(
    presets: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any], what: str
) -> Mapping[str, Any]:
    """`values` with those of the preset that `preset` names, where they say nothing else, in nested mappings too.

    Without presets it is a key like others. ValueError for an unknown one.
    """
    if "preset" not in values or not presets:
        return values
    name = values["preset"]
    if not isinstance(name, str) or name not in presets:
        raise ValueError(f"preset is {name!r} in {what}; it must be one of {', '.join(presets)}")
    merged = dict(presets[name])
    for key, value in values.items():
        if key != "preset":
            base = merged.get(key)
            if isinstance(base, Mapping) and isinstance(value, Mapping):
                merged[key] = {**base, **value}
            else:
                merged[key] = value
    return merged


def check_keys(values: Mapping[str, Any], known: list[str], what: str) -> None:
    """Raise ValueError for the first key that is not `known`, with the nearest name."""
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
            raise ValueError(f"unknown key {key!r} in {what}{hint}")


def frozen(value: Any) -> Any:
    """Lists as tuples, all the way down: JSON and YAML have no tuples, and frozen settings no lists."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(frozen(inner) for inner in value) if isinstance(value, list | tuple) else value
