"""The identity of a dataset's rows, in its table's configuration: codec, settings that change a row, token columns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catalog.config import digest
from catalog.strict_yaml import format_yaml, parse_yaml
from models.identity import TokenIdentity

CODEC_PROPERTY = "speechmill.codec"
COLUMNS_PROPERTY = "speechmill.columns"
_SETTINGS, _DIGEST = "speechmill.settings", "speechmill.settings_digest"

Columns = Mapping[str, TokenIdentity]
"""Maker of each column of tokens or latents besides `codes`."""


@dataclass(frozen=True)
class Identity:
    """Rows of equal identity may share a dataset. `settings` hold neither paths nor resources nor batch sizes."""

    codec: TokenIdentity
    settings: Mapping[str, object]
    columns: Columns = field(default_factory=dict)

    @property
    def settings_digest(self) -> str:
        """sha256 of the settings, hex."""
        return digest(self.settings)

    def to_configuration(self) -> dict[str, str]:
        """The table properties that `from_configuration` reads back."""
        configuration = {
            CODEC_PROPERTY: self.codec.to_json(),
            _SETTINGS: format_yaml(dict(self.settings)),
            _DIGEST: self.settings_digest,
        }
        if self.columns:
            configuration[COLUMNS_PROPERTY] = columns_to_json(self.columns)
        return configuration

    @staticmethod
    def from_configuration(configuration: Mapping[str, str]) -> Identity:
        """Raises KeyError if the table is not a dataset."""
        codec = TokenIdentity.from_json(configuration[CODEC_PROPERTY])
        settings: Mapping[str, Any] = parse_yaml(configuration[_SETTINGS], _SETTINGS)
        return Identity(codec, settings, columns_from_json(configuration.get(COLUMNS_PROPERTY, "{}")))

    def differences(self, other: Identity) -> list[str]:
        """Each differing key with both values, for an error message; empty if the two are equal."""
        mine, theirs = self._flat(), other._flat()
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        return [f"{key} is {mine.get(key)!r}, this job has {theirs.get(key)!r}" for key in keys]

    def column_differences(self, stated: Mapping[str, str]) -> list[str]:
        """Token columns of a file (with the digest of their maker) that differ from the dataset's, in words."""
        made = {name: one.digest for name, one in self.columns.items()}
        found = []
        for name in sorted({*made, *stated}):
            if name not in stated:
                found.append(f"has no {name}; the dataset's is made by {_described(self.columns[name])}")
            elif name not in made:
                found.append(f"has {name}, which the dataset does not have; declare the column first")
            elif made[name] != stated[name]:
                theirs = f"made by another than the dataset's {_described(self.columns[name])}"
                found.append(f"{name} is {theirs} (its digest is {stated[name][:12]})")
        return found

    def _flat(self) -> dict[str, object]:
        columns = {f"columns.{name}": _described(one) for name, one in self.columns.items()}
        return _flat({"codec": dataclasses.asdict(self.codec)}) | _flat(self.settings) | columns


def columns_to_json(columns: Columns) -> str:
    """One line, columns by name, that `columns_from_json` reads back."""
    return json.dumps({name: columns[name].as_dict() for name in sorted(columns)})


def columns_from_json(text: str) -> dict[str, TokenIdentity]:
    """Read what `columns_to_json` wrote."""
    return {name: TokenIdentity(**fields) for name, fields in json.loads(text).items()}


def _described(identity: TokenIdentity) -> str:
    return f"{identity.source} ({identity.digest[:12]})"


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in mapping.items():
        nested = isinstance(value, Mapping) and value
        flat.update(_flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat
