"""What a dataset was made with, in its table's configuration: the codec and the settings that change a row."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from catalog.config import digest
from catalog.strict_yaml import format_yaml, parse_yaml
from models.identity import TokenIdentity

CODEC_PROPERTY = "speechmill.codec"
_SETTINGS, _DIGEST = "speechmill.settings", "speechmill.settings_digest"


@dataclass(frozen=True)
class Identity:
    """Rows of equal identity may share a dataset. `settings` hold neither paths nor resources nor batch sizes."""

    codec: TokenIdentity
    settings: Mapping[str, Any]

    @property
    def settings_digest(self) -> str:
        """sha256 of the settings, hex."""
        return digest(self.settings)

    def to_configuration(self) -> dict[str, str]:
        """The table properties that `from_configuration` reads back."""
        return {
            CODEC_PROPERTY: self.codec.to_json(),
            _SETTINGS: format_yaml(dict(self.settings)),
            _DIGEST: self.settings_digest,
        }

    @staticmethod
    def from_configuration(configuration: Mapping[str, str]) -> Identity:
        """Raises KeyError if the table is not a dataset."""
        codec = TokenIdentity.from_json(configuration[CODEC_PROPERTY])
        return Identity(codec, parse_yaml(configuration[_SETTINGS], _SETTINGS))

    def differences(self, other: Identity) -> list[str]:
        """Each differing key with both values, for an error message; empty if the two are equal."""
        mine, theirs = self._flat(), other._flat()
        keys = [key for key in {**mine, **theirs} if mine.get(key) != theirs.get(key)]
        return [f"{key} is {mine.get(key)!r}, this job has {theirs.get(key)!r}" for key in keys]

    def _flat(self) -> dict[str, Any]:
        return _flat({"codec": dataclasses.asdict(self.codec)}) | _flat(self.settings)


def _flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        nested = isinstance(value, Mapping) and value
        flat.update(_flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value})
    return flat
