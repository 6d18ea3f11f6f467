"""Settings of a text front end, and what a dataset's columns say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from models.checkpoints import Json
from models.settings import dataclass_from
from models.text.treatment import Normalize

Kind = Literal["bytes", "byt5", "huggingface", "phonemes"]


@dataclass(frozen=True)
class TextSettings:
    """Settings of turning a sentence into token ids."""

    kind: Kind
    normalize: Normalize = "transcript"
    language: str = "en"
    """Of texts whose language nobody states."""
    lexicon: str = ""
    """A file of pronunciations (`models.text.lexicon`)."""
    symbols: str = "ipa@1"
    """Of `phonemes`: a table of `models.text.symbols`, or a JSON file of phone -> id."""
    source: str = ""
    """Of `huggingface`: a tokenizer directory or a hub id."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str):
                raise ValueError(f"text front end: {name} is {value!r}; it must be a text (in quotes)")
        for name, allowed in (("kind", get_args(Kind)), ("normalize", get_args(Normalize))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"text front end: {name} is {getattr(self, name)!r}; known: {', '.join(allowed)}"
                )
        if not self.language:
            raise ValueError("text front end: language is empty; give a code such as 'en'")
        if self.kind == "huggingface" and not self.source:
            raise ValueError("text front end huggingface needs source: a tokenizer directory or a hub id")
        others = {"huggingface": ("source", ""), "phonemes": ("symbols", TextSettings.symbols)}
        for kind, (name, unset) in others.items():
            if self.kind != kind and getattr(self, name) != unset:
                raise ValueError(f"text front end {self.kind} has no setting {name!r}")
        if self.kind == "phonemes" and self.normalize == "none":
            raise ValueError(
                "text front end phonemes: normalize must be 'transcript' or 'spoken', not 'none'"
            )


def text_settings(given: Mapping[str, Json], dataset: Mapping[str, Json] | None = None) -> TextSettings:
    """Settings for training: what `given` leaves out follows the `text` settings of the dataset, if those are known.

    ValueError for an unknown key, with the nearest name, or a wrong value.
    """
    values = dict(given)
    if dataset is not None and values.get("kind") == "phonemes":
        values.setdefault("normalize", "spoken" if dataset.get("normalize") else "transcript")
    if dataset is not None:
        values.setdefault("language", dataset.get("language", TextSettings.language))
    return dataclass_from(TextSettings, values, "the text front end")


def column_of(settings: TextSettings, dataset: Mapping[str, Json] | None) -> str:
    """The column that training reads: `text` is treated when it is read, the others were when they were prepared."""
    if settings.kind == "phonemes":
        return "phonemes"
    prepared = settings.normalize == "spoken" and dataset is not None and bool(dataset.get("normalize"))
    return "normalized_text" if prepared else "text"


def contradiction(
    settings: TextSettings, lexicon_sha256: str, dataset: Mapping[str, Json] | None
) -> str | None:
    """Why `settings` would speak another text than the dataset's column taught, in one line; None if they would not.

    `dataset` holds the `text` settings that the rows were prepared with; None where nobody knows them.
    """
    column = column_of(settings, dataset)
    if dataset is None or column == "text":
        return None
    if column == "phonemes" and not dataset.get("phonemes"):
        return (
            "the dataset has no phonemes: prepare it with text.phonemes=true, or train on another text.kind"
        )
    theirs = {
        "normalize": "spoken" if dataset.get("normalize") else "transcript",
        "language": str(dataset.get("language", TextSettings.language)),
        "lexicon": str(dataset.get("lexicon", ""))[:12] or "none",
    }
    mine = {
        "normalize": settings.normalize,
        "language": settings.language,
        "lexicon": lexicon_sha256[:12] or "none",
    }
    for name, value in mine.items():
        if value != theirs[name]:
            return (
                f"text.{name} is {value!r}, but the dataset's column {column} was made with {theirs[name]!r}: "
                "say the same, or prepare the dataset again"
            )
    return None
