"""Phones as token ids: the table of this program, and maps that other programs made.

The own table spells a phone by its characters (`lˈ` is `l`, `ˈ`), decomposed (NFD), so it is complete for every voice
of espeak-ng and for IPA that people write. A map knows whole phones, as VALL-E's does.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BEGIN, END = "<s>", "</s>"
_PADDING = "<pad>"


@dataclass(frozen=True)
class SymbolTable:
    """Token ids of phones."""

    name: str
    """`ipa@1`, or the file that it was read from."""
    ids: Mapping[str, int]
    """Not always distinct: VALL-E's default map has the same id for `?` and `p`."""
    vocab_size: int
    """Rows that a text table needs, with room for later symbols."""
    spelled: bool
    """Whether ids are of characters or of whole phones."""

    def encode(self, phones: Sequence[str]) -> list[int]:
        """Ids of the phones between begin and end, where the table has those.

        ValueError names the first phone that the table lacks.
        """
        begin, end = ([self.ids[mark]] if mark in self.ids else [] for mark in (BEGIN, END))
        return [*begin, *(number for phone in phones for number in self._of(phone)), *end]

    def _of(self, phone: str) -> list[int]:
        symbols = unicodedata.normalize("NFD", phone) if self.spelled else [phone]
        try:
            return [self.ids[symbol] for symbol in symbols]
        except KeyError:
            raise ValueError(f"the symbol table {self.name} has no phone {phone!r}") from None


def symbol_table(name: str, root: Path | None = None) -> SymbolTable:
    """The table of that name and version (`ipa@1`), or the map in a JSON file, whose relative path starts at `root`.

    ValueError for a version that this program does not know, and for a file that holds no map.
    """
    if name in VERSIONS:
        return _own(name)
    path = Path(name) if root is None else root / name
    if path.suffix == ".json":
        return read_symbols(path)
    raise ValueError(
        f"the symbol table {name!r} is unknown; known: {', '.join(VERSIONS)}, or a JSON file of phone -> id"
    )


def read_symbols(path: Path) -> SymbolTable:
    """A map of phone -> id from a JSON file. ValueError names what is wrong with it, OSError if it is not there."""
    try:
        ids = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON file: {error}") from None
    if not isinstance(ids, dict) or not ids:
        raise ValueError(f"{path} must hold a JSON object of phone -> id")
    for phone, number in ids.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise ValueError(f"{path}: the id of {phone!r} is {number!r}; it must be a whole number from 0")
    return SymbolTable(str(path), ids, max(ids.values()) + 1, spelled=False)


def write_symbols(table: SymbolTable, path: Path) -> None:
    """Write what `read_symbols` reads back."""
    text = json.dumps(dict(table.ids), ensure_ascii=False, indent=0)
    path.write_text(text + "\n", encoding="utf-8")


# A later version may add symbols behind those of an earlier one, and nothing else.
_ASCII = "".join(map(chr, range(0x20, 0x7F)))
_PUNCTUATION = "¡¿—…«»“”‘’、。「」『』《》〈〉؛،؟।·‖"
_LETTERS = "æðøħŋœŧłıßʼβθχφελπσΦ" + "".join(map(chr, range(0x250, 0x2B0)))
_MODIFIERS = "ˈˌːˑʰʱʲʳʴʵʶʷʸˀˁ˞ˠˡˢˣˤ˥˦˧˨˩˳˔˕˖˗ᵊᵐᵑᵝᵻⁿᶑᶿᵗᵈᵇᵏᶢᵖ↑↓↗↘ꜛꜜ"
_COMBINING = "".join(map(chr, (*range(0x300, 0x340), 0x342, *range(0x345, 0x370), 0x1DC4, 0x1DC5, 0x1DC8)))
VERSIONS: Mapping[str, tuple[int, str]] = {
    "ipa@1": (512, _ASCII + _PUNCTUATION + _LETTERS + _MODIFIERS + _COMBINING),
}
"""Rows and characters of the tables; ids 0, 1, 2 are padding, begin and end, the characters follow."""


@cache
def _own(name: str) -> SymbolTable:
    vocab_size, characters = VERSIONS[name]
    symbols = dict.fromkeys((_PADDING, BEGIN, END, *characters))
    return SymbolTable(name, {symbol: at for at, symbol in enumerate(symbols)}, vocab_size, spelled=True)
