"""Text front ends: a sentence becomes token ids, the same in training and in speaking.

`text_front_end` builds one from what `text.json` or `system.json` say, `training_front_end` from the settings of a fit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from models.checkpoints import Json
from models.text import espeak
from models.text.byte_level import ByT5Tokens, ByteTokens
from models.text.hugging_face import HuggingFaceTokens
from models.text.lexicon import Lexicon, read_lexicon
from models.text.makers import Makers
from models.text.settings import TextSettings, column_of, contradiction, text_settings
from models.text.symbols import SymbolTable, symbol_table, write_symbols
from models.text.treatment import Treatment
from models.text.verbalize import EDITION

_LEXICON, _SYMBOLS = "text/lexicon.json", "text/symbols.json"
_FILES = ("source", "lexicon", "symbols")
"""Settings that may be paths."""
_RECORDS = ("lexicon_sha256", "symbols_sha256", "espeak_ng", "spoken_forms")
"""What a description says besides settings."""
_FIRST_EDITION = "1"
"""Of the spoken forms, where a description or a dataset records none."""


class TextFrontEnd(Protocol):
    """Interface of every front end."""

    vocab_size: int
    """Rows that a text table needs."""
    column: str
    """The dataset's column that training reads: `text`, `normalized_text` or `phonemes`."""
    needs_language: bool
    """Whether `encode_stored` treats texts by their language; otherwise `prepare` did so, or nobody does."""

    def encode(
        self, text: str, language: str | None = None, phones: Sequence[str] | None = None
    ) -> list[int]:
        """Token ids in [0, vocab_size) of a sentence as somebody wrote it, special tokens included.

        `language` None is the front end's own. Given `phones` stand in for those of the text. ValueError with one line
        for what cannot be said.
        """

    def encode_stored(self, value: str | Sequence[str], language: str | None = None) -> list[int]:
        """The ids that `encode` gives for the sentence, from what `column` holds of it."""

    def save(self, directory: Path) -> dict[str, Json]:
        """Write the files it needs below `directory`; the result describes it relative to that directory."""


class Tokens(Protocol):
    """A tokenizer of written text."""

    vocab_size: int

    def ids(self, text: str) -> list[int]:
        """Token ids, special tokens included."""

    def save(self, directory: Path) -> dict[str, str]:
        """Write its files below `directory`; the result are the settings that find them."""


class WrittenFrontEnd:
    """Tokens of the text's letters: bytes, or a tokenizer's pieces."""

    def __init__(
        self, kind: str, tokens: Tokens, treatment: Treatment, makers: Makers, column: str = "text"
    ) -> None:
        self._kind, self._tokens, self._treatment, self._makers = kind, tokens, treatment, makers
        self.vocab_size, self.column = tokens.vocab_size, column
        spelled_by_language = treatment.normalize == "spoken" or bool(treatment.lexicon.entries)
        self.needs_language = column == "text" and spelled_by_language

    def encode(
        self, text: str, language: str | None = None, phones: Sequence[str] | None = None
    ) -> list[int]:
        """See `TextFrontEnd`."""
        if phones is not None:
            raise ValueError(f"the text front end {self._kind} reads no phones; give the text alone")
        _compare_spoken_forms(self._treatment, self._makers)
        return self._tokens.ids(self._treatment.text(text, language))

    def encode_stored(self, value: str | Sequence[str], language: str | None = None) -> list[int]:
        """See `TextFrontEnd`."""
        assert isinstance(value, str)
        return self.encode(value, language) if self.column == "text" else self._tokens.ids(value)

    def save(self, directory: Path) -> dict[str, Json]:
        """See `TextFrontEnd`."""
        return {
            "kind": self._kind,
            **_save_treatment(self._treatment, self._makers, directory),
            **self._tokens.save(directory),
        }


class PhonemeFrontEnd:
    """Phones of espeak-ng, or given ones, by a symbol table."""

    column = "phonemes"
    needs_language = False

    def __init__(self, table: SymbolTable, treatment: Treatment, makers: Makers | None = None) -> None:
        """`makers` are the versions that made the phones it was trained on, as far as they are known."""
        self._table, self._treatment, self._makers = table, treatment, makers or Makers({})
        self.vocab_size = table.vocab_size

    @property
    def symbols(self) -> Mapping[str, int]:
        """The id of each symbol."""
        return self._table.ids

    def encode(
        self, text: str, language: str | None = None, phones: Sequence[str] | None = None
    ) -> list[int]:
        """See `TextFrontEnd`. Warns once if others than in training make them."""
        if phones is None:
            phones = self._treatment.phones(text, language)
            self._makers.compare("espeak_ng", espeak.version())
            _compare_spoken_forms(self._treatment, self._makers)
        return self._table.encode(phones)

    def encode_stored(self, value: str | Sequence[str], language: str | None = None) -> list[int]:  # noqa: ARG002
        """See `TextFrontEnd`."""
        assert not isinstance(value, str)
        return self._table.encode(value)

    def save(self, directory: Path) -> dict[str, Json]:
        """See `TextFrontEnd`."""
        found: dict[str, Json] = {
            "kind": "phonemes",
            **_save_treatment(self._treatment, self._makers, directory),
        }
        found["language"] = self._treatment.language
        if self._table.spelled:
            found["symbols"] = self._table.name
        else:
            _make_folder(directory)
            write_symbols(self._table, directory / _SYMBOLS)
            found |= {"symbols": _SYMBOLS, "symbols_sha256": _sha256(self._table.ids)}
        version = self._makers.version("espeak_ng", "") or _installed_espeak()
        return {**found, "espeak_ng": version} if version else found


def text_front_end(description: Mapping[str, Json], root: Path | None = None) -> TextFrontEnd:
    """Build the front end that a description names, as `save` wrote it; `root` is what its relative paths start from.

    A description without `normalize` means none, as before there was any. ValueError for an unknown kind or key, a
    file that is not what it was, or a symbol table of another version; OSError for a file that is not there.
    """
    records = {key: str(value) for key, value in description.items() if key in _RECORDS}
    given = {key: value for key, value in description.items() if key not in _RECORDS}
    if given.get("normalize") == "spoken":
        records.setdefault("spoken_forms", _FIRST_EDITION)
    unstated = {} if given.get("kind") == "phonemes" else {"normalize": "none"}
    settings = text_settings(unstated | located(given, root))
    lexicon = _lexicon(settings, records.get("lexicon_sha256", ""))
    return _build(settings, lexicon, column_of(settings, None), records)


def training_front_end(given: Mapping[str, Json], dataset: Mapping[str, Json] | None = None) -> TextFrontEnd:
    """The front end of a fit. `dataset` holds the `text` settings that its rows were prepared with, if they are known.

    ValueError if it would speak another text than the dataset's column teaches, and for what `text_front_end` refuses.
    """
    settings = text_settings(given, dataset)
    lexicon = _lexicon(settings)
    reason = contradiction(settings, lexicon.sha256, dataset)
    if reason is not None:
        raise ValueError(reason)
    column = column_of(settings, dataset)
    recorded = {} if dataset is None else {"espeak_ng": str(dataset.get("espeak_ng", ""))}
    if dataset is not None and column != "text":
        recorded["spoken_forms"] = str(dataset.get("spoken_forms", _FIRST_EDITION))
    return _build(settings, lexicon, column, recorded)


def comparable(description: Mapping[str, Json]) -> dict[str, Json]:
    """A description without versions: machines without espeak-ng record none, editions of spoken forms are said."""
    return {key: value for key, value in description.items() if key not in ("espeak_ng", "spoken_forms")}


def located(description: Mapping[str, Json], root: Path | None) -> dict[str, Json]:
    """The description with the paths of files that are in `root` made whole; names and other paths stay."""
    found = dict(description)
    for key in _FILES:
        value = found.get(key)
        if root is not None and isinstance(value, str) and value and (root / value).exists():
            found[key] = str(root / value)
    return found


def _build(settings: TextSettings, lexicon: Lexicon, column: str, records: Mapping[str, str]) -> TextFrontEnd:
    treatment = Treatment(settings.normalize, settings.language, lexicon)
    makers = Makers(
        {name: version for name, version in records.items() if name in ("espeak_ng", "spoken_forms")}
    )
    if settings.kind != "phonemes":
        return WrittenFrontEnd(settings.kind, _tokens(settings), treatment, makers, column)
    table = symbol_table(settings.symbols)
    _check_sha256("symbols", settings.symbols, records.get("symbols_sha256", ""), _sha256(table.ids))
    return PhonemeFrontEnd(table, treatment, makers)


def _tokens(settings: TextSettings) -> Tokens:
    if settings.kind == "huggingface":
        return HuggingFaceTokens(settings.source)
    return ByteTokens() if settings.kind == "bytes" else ByT5Tokens()


def _lexicon(settings: TextSettings, sha256: str = "") -> Lexicon:
    lexicon = read_lexicon(Path(settings.lexicon)) if settings.lexicon else Lexicon()
    _check_sha256("lexicon", settings.lexicon, sha256, lexicon.sha256)
    return lexicon


def _check_sha256(what: str, source: str, recorded: str, found: str) -> None:
    if recorded and recorded != found:
        raise ValueError(
            f"text front end: {what} {source or 'none'} is another one (sha256 {found[:12]}) "
            f"than it was trained with ({recorded[:12]})"
        )


def _compare_spoken_forms(treatment: Treatment, makers: Makers) -> None:
    if treatment.normalize == "spoken":
        makers.compare("spoken_forms", EDITION)


def _save_treatment(treatment: Treatment, makers: Makers, directory: Path) -> dict[str, Json]:
    """Nothing for a text that is read as it is given, as before there was any treatment."""
    found: dict[str, Json] = {} if treatment.normalize == "none" else {"normalize": treatment.normalize}
    if treatment.normalize == "spoken" or treatment.lexicon.entries:
        found["language"] = treatment.language
    if treatment.normalize == "spoken":
        found["spoken_forms"] = makers.version("spoken_forms", EDITION)
    if treatment.lexicon.entries:
        _make_folder(directory)
        (directory / _LEXICON).write_text(treatment.lexicon.to_json(), encoding="utf-8")
        found |= {"lexicon": _LEXICON, "lexicon_sha256": treatment.lexicon.sha256}
    return found


def _make_folder(directory: Path) -> None:
    (directory / _LEXICON).parent.mkdir(parents=True, exist_ok=True)


def _installed_espeak() -> str:
    """Its version; empty on machines without, which train on a column."""
    try:
        return espeak.version()
    except espeak.EspeakError:
        return ""


def _sha256(ids: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(dict(ids), sort_keys=True).encode()).hexdigest()
