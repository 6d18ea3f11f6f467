"""Names of the splits in other programs."""

from __future__ import annotations

from collections.abc import Sequence

from catalog.command import UsageError

_KNOWN = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
}


def stored_split(name: str, wanted: Sequence[str] | None = None) -> str | None:
    """`train` or `validation` for a source's split, None for one that is not wanted.

    Raises UsageError for one that is neither.
    """
    if wanted is not None and name not in wanted:
        return None
    if name not in _KNOWN:
        raise UsageError(
            f"the source has a split {name!r}, which is neither for training nor for validation; "
            "name those to import with --split"
        )
    return _KNOWN[name]


def is_split(name: str) -> bool:
    """True if a name stands for one of our splits."""
    return name in _KNOWN
