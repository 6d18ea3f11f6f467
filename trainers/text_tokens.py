"""Token ids of training rows, from the column that holds what is spoken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from models.checkpoints import Json
from models.text.front_ends import training_front_end
from models.text.settings import text_settings
from trainers.plan import Needs
from trainers.store import Store

LEGACY: Mapping[str, Json] = {
    "text.normalize": "none",
    "text.language": "en",
    "text.lexicon": "",
    "text.symbols": "ipa@1",
    "text.source": "",
}
"""`Objective.legacy` where the settings have a section `text`: what runs had before it had these keys."""


def completed(settings: Mapping[str, Json], dataset: Mapping[str, Json] | None) -> dict[str, Json]:
    """All settings of a section `text`. ValueError names an unknown key or a wrong value."""
    return asdict(text_settings(settings, dataset))


class TextTokens:
    """The text front end of a fit and the rows that it reads.

    `settings` is the `text` section of an objective, `dataset` the `text` settings that the rows were prepared with.
    ValueError if the two contradict each other.
    """

    def __init__(self, settings: Mapping[str, Json], dataset: Mapping[str, Json] | None) -> None:
        self.front_end = training_front_end(settings, dataset)
        self._by_language = self.front_end.needs_language

    @property
    def needs(self) -> Needs:
        """The columns that are read."""
        return Needs((self.front_end.column,), nullable=("language",) if self._by_language else ())

    @property
    def sizes(self) -> dict[str, int]:
        """The model setting that follows from the front end: rows of the text table."""
        return {"text_vocab_size": self.front_end.vocab_size}

    def of_nothing(self) -> list[int]:
        """Token ids of the empty text."""
        return self.front_end.encode_stored([] if self.front_end.column == "phonemes" else "")

    def __call__(self, rows: Store, row: int) -> list[int]:
        """Token ids of one row, as `encode` gives them for its sentence. ValueError names a row that has none."""
        column = self.front_end.column
        value = rows.strings(row, column) if column == "phonemes" else rows.text(row, column)
        language = rows.text(row, "language") if self._by_language else ""
        try:
            return self.front_end.encode_stored(value, language or None)
        except ValueError as error:
            raise ValueError(f"row {rows.id(row)}: {error}") from error
