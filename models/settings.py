"""Frozen dataclasses from mappings, with unknown keys refused."""

from __future__ import annotations

import dataclasses
import difflib
import math
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
    check_finite(values, what)
    return kind(**{key: frozen(value) for key, value in values.items()})


def replaced(base: T, values: Mapping[str, Any], what: str) -> T:
    """`base` with `values` in place; ValueError for a key that it does not have, or a value of another type."""
    kinds = {field.name: str(field.type) for field in dataclasses.fields(base)}  # type: ignore[arg-type]
    check_keys(values, list(kinds), what)
    check_finite(values, what)
    for key, value in values.items():
        _check_kind(key, value, kinds[key], what)
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


def check_finite(values: Mapping[str, Any], what: str) -> None:
    """Raise ValueError for the first number that is infinite or none, in lists and nested mappings too."""
    for key, value in values.items():
        inner = value if isinstance(value, list | tuple) else [value]
        for one in inner:
            if isinstance(one, Mapping):
                check_finite(one, what)
            elif isinstance(one, float) and not math.isfinite(one):
                raise ValueError(f"{key} is {one} in {what}; it must be finite")


def _check_kind(key: str, value: object, kind: str, what: str) -> None:
    """Raise ValueError for a value that does not fit a field's annotation, if that is a number, a text or a bool."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "int": is_number and value == int(value),  # type: ignore[call-overload]
        "float": is_number,
        "bool": isinstance(value, bool),
        "str": isinstance(value, str),
    }
    if not fits.get(kind, True):
        name = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}[kind]
        raise ValueError(f"{key} is {value!r:.40} in {what}; it must be {name}")


def frozen(value: Any) -> Any:
    """Lists as tuples, all the way down: JSON and YAML have no tuples, and frozen settings no lists."""
    if isinstance(value, dict):
        return {key: frozen(inner) for key, inner in value.items()}
    return tuple(frozen(inner) for inner in value) if isinstance(value, list | tuple) else value
