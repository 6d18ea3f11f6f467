"""Settings: a YAML file and `a.b=c` overrides become one strict, frozen, validated value.

Types are not coerced: "8" is not 8, and true is not 1.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from catalog.command import UsageError
from catalog.strict_yaml import format_yaml, parse_yaml

T = TypeVar("T")


class Settings(BaseModel):
    """Base of every settings model: complete, frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_config(
    model: type[T],
    path: Path | None,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, object] | None = None,
) -> T:
    """Merge `defaults`, the YAML file at `path` and the `a.b=c` overrides (YAML values), later ones winning.

    `model` is a `Settings` class or a stdlib dataclass. Raises UsageError: one line that names the file or
    `--set`, the dotted key, the value and the rule.
    """
    data = _merge(dict(defaults or {}), _read(path) if path is not None else {})
    for override in overrides:
        _apply(data, override)
    source = _Source(
        str(path) if path is not None else "settings", [text.partition("=")[0].strip() for text in overrides]
    )
    _refuse_unknown(model, data, (), source)
    try:
        # JSON mode is strict about scalars, yet takes a list for a tuple and text for a path or an enum.
        return TypeAdapter(model).validate_json(json.dumps(data, default=_plain), strict=True)
    except ValidationError as error:
        raise UsageError(_describe(error, data, source)) from error


def to_yaml(config: object) -> str:
    """The resolved settings (a pydantic model or dataclass) as YAML that `load_config` reads back."""
    plain = TypeAdapter(type(config)).dump_python(config, mode="json", by_alias=True)
    return format_yaml(plain)


def digest(mapping: Mapping[str, object]) -> str:
    """sha256 (hex) of the canonical JSON: sorted keys, no spaces, UTF-8. ValueError for NaN and infinity."""
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def nearest(word: str, known: Sequence[str]) -> str:
    """A hint for an error message: the known word closest to `word`, or all that is known."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)) or 'nothing'}"


@dataclasses.dataclass(frozen=True)
class _Source:
    name: str
    overridden: list[str]

    def of(self, key: str) -> str:
        given = any(key == name or key.startswith(f"{name}.") for name in self.overridden)
        return "--set" if given else self.name


def _read(path: Path) -> dict[str, object]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"{path}: not UTF-8 at byte {error.start} (line {line}); save the file as UTF-8"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    data = parse_yaml(text, str(path))
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(
            f"{path}: holds a {type(data).__name__}; the file must be a mapping of keys to values"
        )
    return data


def _merge(base: dict[str, object], over: Mapping[str, object]) -> dict[str, object]:
    for key, value in over.items():
        old = base.get(key)
        base[key] = (
            _merge(dict(old), value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return base


def _apply(data: dict[str, object], override: str) -> None:
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise UsageError(f"--set {override}: must be a.b=value")
    for depth, part in enumerate(path[:-1]):
        child = data.get(part)
        if child is not None and not isinstance(child, dict):
            raise UsageError(
                f"--set {override}: {'.'.join(path[: depth + 1])} is {child!r}, which has no keys"
            )
        inner: dict[str, object] = dict(child or {})
        data[part] = data = inner
    data[path[-1]] = parse_yaml(text, f"--set {key.strip()}")


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)


def _refuse_unknown(annotation: object, value: object, location: tuple[str, ...], source: _Source) -> None:
    """Pydantic ignores unknown keys of nested stdlib dataclasses, and never names the nearest known one."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unknown_any(_item_types(annotation), item, (*location, str(index)), source)
    if not isinstance(value, Mapping):
        return
    shapes = [
        shape
        for shape in map(_fields, _alternatives(annotation))
        if shape is not None and _agrees(shape, value)
    ]
    if not shapes:
        for key, item in value.items():
            _refuse_unknown_any(_item_types(annotation), item, (*location, key), source)
        return
    known = {name: [shape[name] for shape in shapes if name in shape] for shape in shapes for name in shape}
    for key, item in value.items():
        dotted = ".".join((*location, key))
        if key not in known:
            raise UsageError(f"{source.of(dotted)}: unknown key {dotted}; {nearest(key, list(known))}")
        _refuse_unknown_any(known[key], item, (*location, key), source)


def _refuse_unknown_any(
    annotations: list[object], value: object, location: tuple[str, ...], source: _Source
) -> None:
    if annotations:
        _refuse_unknown(typing.Union[tuple(annotations)], value, location, source)  # noqa: UP007 - built at run time


def _alternatives(annotation: object) -> Iterator[object]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _alternatives(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def _item_types(annotation: object) -> list[object]:
    """Element types of the lists, tuples and mappings among the alternatives."""
    return [
        typing.get_args(one)[
            -1 if len(typing.get_args(one)) == 2 and typing.get_args(one)[1] is not ... else 0
        ]
        for one in _alternatives(annotation)
        if typing.get_args(one) and typing.get_origin(one) is not typing.Literal
    ]


def _fields(annotation: object) -> dict[str, object] | None:
    """Field names and types of a pydantic model or dataclass, None for anything else."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {field.alias or name: field.annotation for name, field in annotation.model_fields.items()}
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        hints = typing.get_type_hints(annotation)
        return {field.name: hints[field.name] for field in dataclasses.fields(annotation) if field.init}
    return None


def _agrees(shape: Mapping[str, object], value: Mapping[str, object]) -> bool:
    """True if a mapping's words for `Literal` fields (the tags of a union) are those of this alternative."""
    return all(
        value[name] in typing.get_args(annotation)
        for name, annotation in shape.items()
        if name in value and typing.get_origin(annotation) is typing.Literal and isinstance(value[name], str)
    )


def _describe(error: ValidationError, data: object, source: _Source) -> str:
    """One line for the first wrong key; a union reports one error per member, which belong together."""
    errors = error.errors(include_url=False)
    # Unknown keys were refused before, so these only say that another member of a union was meant.
    errors = [one for one in errors if one["type"] != "unexpected_keyword_argument"] or errors
    keys = [_dotted(one["loc"], data, one["type"] == "missing") for one in errors]
    key, value = keys[0], errors[0]["input"]
    others = len(set(keys)) - 1
    more = f" (and {others} more)" if others else ""
    if errors[0]["type"] == "missing":
        return f"{source.of(key)}: {key} is required and missing{more}"
    rules = dict.fromkeys(_rule(one["msg"]) for one, name in zip(errors, keys, strict=True) if name == key)
    subject = "" if not key else f"{key}: " if isinstance(value, dict) else f"{key} = {value!r}: "
    return f"{source.of(key)}: {subject}{' or '.join(rules)}{more}"


def _rule(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return text[:1].lower() + text[1:]


def _dotted(location: Sequence[str | int], data: object, missing: bool) -> str:
    """The key as the user wrote it: pydantic's location without the names of union members."""
    parts: list[str] = []
    for index, part in enumerate(location):
        items = dict(enumerate(data)) if isinstance(data, list) else data
        is_inside = isinstance(items, dict) and part in items
        if is_inside:
            data = typing.cast("dict[str | int, object]", items)[part]
        if is_inside or (missing and index == len(location) - 1):
            parts.append(str(part))
    return ".".join(parts)
