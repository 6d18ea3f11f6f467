"""Texts that leave the process: URIs without secrets, foreign names without control characters. Standard library only.

Everything that is stored or said of a URI goes through `without_secrets`, every line for people through `printable`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

_KEPT = "\u00a0\u200c\u200d\u3000"
"""Spaces and joiners that belong to spelling."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^\s/?#'\"]*@)?([^\s?'\"]*)(?:\?[^\s#'\"]*)?")
_SIGNED = re.compile(r"[?&](?:sig|signature|token|(?:api|access)?[-_]?key|secret|password|pass|auth|code|"
                     r"(?:x-)?(?:amz|goog|oss|cos)-[\w-]+|[\w-]*(?:token|signature|credential|secret)[\w-]*)=",
                     re.IGNORECASE)  # fmt: skip


def without_secrets(text: str) -> str:
    """The text with every URI in it cut down to scheme, host and path (and a fragment that follows)."""
    return _URI.sub(r"\1\2", text) if "://" in text else text


def unsigned(text: str) -> str:
    """The same, but queries stay unless they hold a signature or key: for names, which tell recordings apart."""
    if "://" not in text or _SIGNED.search(text):
        return without_secrets(text)
    return re.sub(r"(://)[^\s/?#'\"]*@", r"\1", text)


def printable(text: str) -> str:
    """The text with what could steer a terminal, or turn lines around, as escapes: `\\x1b`, `\\n`, `\\u202e`."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in _KEPT else repr(char)[1:-1] for char in text)


def say(line: str) -> None:
    """One line on standard error, fit for a terminal."""
    sys.stderr.write(f"{printable(without_secrets(line))}\n")
    sys.stderr.flush()


def all_without_secrets(value: T) -> T:
    """Texts in mappings and lists, without their secrets."""
    if isinstance(value, str):
        return without_secrets(value)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        return {key: all_without_secrets(item) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        return type(value)(map(all_without_secrets, value))
    return value
