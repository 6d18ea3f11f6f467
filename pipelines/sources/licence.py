"""The licence that a source of recordings states: in the front matter of its README, else by a licence file."""

from __future__ import annotations

import re
from pathlib import Path

from catalog.command import UsageError
from catalog.strict_yaml import parse_yaml
from pipelines.sources.uris import local_path

_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "COPYING")
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_LONGEST = 120
_MOST_CHARS = 1 << 16


def stated_licence(uri: str) -> str | None:
    """`license` of a local source's dataset card (`README.md`), else the first line of its licence file.

    None where nothing is stated, nothing can be read, or the source lies elsewhere.
    """
    path = local_path(uri)
    if path is None:
        return None
    folder = path if path.is_dir() else path.parent
    matter = _FRONT_MATTER.match(_text(folder / "README.md"))
    found = [_of_card(matter[1]) if matter else ""]
    for name in _FILES:
        lines = (line.strip(" #\t") for line in _text(folder / name).splitlines())
        found.append(next((line for line in lines if line), ""))
    return next((one[:_LONGEST] for one in found if one), None)


def _of_card(matter: str) -> str:
    try:
        card = parse_yaml(matter, "README.md")
    except UsageError:
        return ""
    stated = card.get("license") if isinstance(card, dict) else None
    return ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or "")


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(_MOST_CHARS)
    except OSError:
        return ""
