"""The embedded codec's editions: directories beside this file."""

from __future__ import annotations

from pathlib import Path

EMBEDDED = "mill-16khz"
FOLDER = Path(__file__).parent


def editions() -> list[str]:
    """Editions that have weights, oldest first."""
    found = (path.parent.name.partition("@")[2] for path in FOLDER.glob(f"{EMBEDDED}@*/model.safetensors"))
    return sorted(found, key=int)


def embedded_directory(source: str) -> Path | None:
    """The directory of `mill-16khz` or `mill-16khz@EDITION`; None for another source.

    ValueError for an edition that does not exist, FileNotFoundError where no edition has weights.
    """
    name, _, edition = source.partition("@")
    if name != EMBEDDED:
        return None
    present = editions()
    if not edition and not present:
        raise FileNotFoundError(f"{EMBEDDED}: no {FOLDER}/{EMBEDDED}@*/model.safetensors")
    wanted = edition or present[-1]
    if wanted not in present:
        raise ValueError(
            f"{EMBEDDED} has no edition {wanted!r}; editions with weights: {', '.join(present) or 'none'}"
        )
    return FOLDER / f"{EMBEDDED}@{wanted}"
