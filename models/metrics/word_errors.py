"""Word and character error rates: edits between what was to be said and what a recogniser heard.

Texts are normalised as Whisper's evaluation does (Radford et al. 2022, appendix C), by the code in transformers:
English rules for English, the basic ones for other languages. The table of British spellings is not in the package,
so `colour` and `color` differ.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol


class _Normalizer(Protocol):
    def __call__(self, s: str, /) -> str: ...


@dataclass(frozen=True)
class EditCounts:
    """Edits of the cheapest alignment of what was heard with a reference."""

    substitutions: int
    deletions: int
    """Of the reference, not heard."""
    insertions: int
    """Heard, not in the reference."""
    length: int
    """Of the reference."""

    @property
    def errors(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions


def edit_counts(reference: Sequence[Hashable], heard: Sequence[Hashable]) -> EditCounts:
    """Levenshtein's alignment, each edit costing 1; among alignments of one cost, that of most substitutions."""
    # A cell: cost, then insertions and deletions, so that the minimum prefers substitutions.
    above = [(column, column, 0) for column in range(len(heard) + 1)]
    for row, wanted in enumerate(reference, 1):
        cells = [(row, 0, row)]
        for column, found in enumerate(heard, 1):
            cost, inserted, deleted = above[column - 1]
            diagonal = (cost + (wanted != found), inserted, deleted)
            cost, inserted, deleted = above[column]
            down = (cost + 1, inserted, deleted + 1)
            cost, inserted, deleted = cells[-1]
            cells.append(min(diagonal, down, (cost + 1, inserted + 1, deleted)))
        above = cells
    cost, inserted, deleted = above[-1]
    return EditCounts(cost - inserted - deleted, deleted, inserted, len(reference))


def error_rate(counts: Iterable[EditCounts]) -> float:
    """Pooled over rows: all errors by all units of the references. ValueError if those have none."""
    rows = list(counts)
    length = sum(row.length for row in rows)
    if not length:
        raise ValueError(
            f"an error rate of {len(rows)} rows whose references hold nothing; give one with words"
        )
    return sum(row.errors for row in rows) / length


def normalized(text: str, language: str) -> str:
    """The text as Whisper's evaluation compares it; `language` is an ISO 639-1 code such as `en` or `en-GB`."""
    made: str = _normalizer(_is_english(language))(text)
    return " ".join(made.split())


def word_errors(reference: str, heard: str, language: str) -> EditCounts:
    """Edits of words, both texts normalised."""
    return edit_counts(normalized(reference, language).split(), normalized(heard, language).split())


def character_errors(reference: str, heard: str, language: str) -> EditCounts:
    """Edits of characters, both texts normalised, without white space."""
    wanted, found = (normalized(text, language).replace(" ", "") for text in (reference, heard))
    return edit_counts(wanted, found)


def _is_english(language: str) -> bool:
    return language.lower().replace("_", "-").split("-")[0] == "en"


@cache
def _normalizer(english: bool) -> _Normalizer:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    made: _Normalizer = EnglishTextNormalizer({}) if english else BasicTextNormalizer()
    return made
