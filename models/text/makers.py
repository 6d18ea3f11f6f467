"""Versions of what makes spoken text and phones: recorded with a model, and compared where it speaks."""

from __future__ import annotations

import logging
from collections.abc import Mapping

_MESSAGES = {
    "espeak_ng": "espeak-ng here is %s; the model was trained on phones of %s, and may know some words otherwise",
    "spoken_forms": "numbers are said by edition %s of the spoken forms; the model was trained on edition %s, "
    "and may know some of them otherwise",
}


class Makers:
    """The versions that a description records, by name; a name without a version is not known."""

    def __init__(self, recorded: Mapping[str, str]) -> None:
        self._recorded = {name: version for name, version in recorded.items() if version}
        self._warned: set[str] = set()

    def compare(self, name: str, here: str) -> None:
        """Warn, once, if another version made what the model was trained on."""
        known = self._recorded.get(name, here)
        if known != here and name not in self._warned:
            logging.getLogger("speechmill.text").warning(_MESSAGES[name], here, known)
            self._warned.add(name)

    def version(self, name: str, here: str) -> str:
        """The recorded version, or the one that is `here`."""
        return self._recorded.get(name, here)
