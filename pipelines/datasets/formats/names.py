"""Ids as file names: one path component, safe everywhere, and back again.

Letters and digits of any script, `-` and `_` stay; every other character is percent-encoded as UTF-8. A dot is
encoded too: WebDataset cuts a name at its first dot, and `..` would leave the folder.
"""

from __future__ import annotations

import os
from urllib.parse import quote, unquote

LONGEST_BYTES = 240
"""File systems allow 255; the endings of the formats need up to 12."""
NOTHING = "_"
"""Stands for a value that is not known; an underscore alone is encoded, so nothing else gives it."""
_EMPTY = "%"


def to_name(text: str) -> str:
    """The file name of an id. ValueError where it would be too long for a file system."""
    if text == NOTHING:
        return "%5F"
    name = "".join(character if _plain(character) else _encoded(character) for character in text) or _EMPTY
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # a locale without these letters
        name = quote(name, safe="%")
    size = len(name.encode())
    if size > LONGEST_BYTES:
        raise ValueError(f"a file name of {size} bytes; at most {LONGEST_BYTES} are allowed")
    return name


def from_name(name: str) -> str:
    """The id that `to_name` was given; names of other programs stay what they are, but for `%41` and the like."""
    return "" if name == _EMPTY else unquote(name)


def _plain(character: str) -> bool:
    return character.isalnum() or character in "-_"


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
