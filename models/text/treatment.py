"""Treatment of a text before it becomes tokens: the one function of preparation, training and speaking."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from models.text.lexicon import Lexicon
from models.text.normalize import normalize_transcript
from models.text.phonemes import Ipa, phonemize_parts
from models.text.verbalize import verbalize

Normalize = Literal["none", "transcript", "spoken"]
_PLACE = "\ue000"
"""Stands for a word whose IPA is given; a character for private use, which no text means."""


@dataclass(frozen=True)
class Treatment:
    """Pure functions of a text and its language."""

    normalize: Normalize = "transcript"
    """`none`: as given; `transcript`: `normalize_transcript`; `spoken`: numbers and symbols written out, too."""
    language: str = "en"
    """Of texts whose language nobody states."""
    lexicon: Lexicon = field(default_factory=Lexicon)

    def text(self, text: str, language: str | None = None) -> str:
        """The text as a tokenizer reads it, and as the column `normalized_text` holds it for `spoken`."""
        spoken_in = language or self.language
        return self._normalized(self.lexicon.respell(self._plain(text), spoken_in), spoken_in)

    def phones(self, text: str, language: str | None = None) -> list[str]:
        """The phones of the text, as the column `phonemes` holds them. EspeakError for what has none."""
        spoken_in = language or self.language
        given: list[Ipa] = []
        words = ""
        for piece, entry in self.lexicon.find(self._plain(text).replace(_PLACE, ""), spoken_in):
            if entry is not None and entry.ipa:
                given.append(Ipa(entry.ipa))
            words += piece if entry is None else _PLACE if entry.ipa else entry.say
        first, *others = self._normalized(words, spoken_in).split(_PLACE)
        parts = [first, *(part for pair in zip(given, others, strict=True) for part in pair)]
        return phonemize_parts(parts, spoken_in)

    def _plain(self, text: str) -> str:
        return text if self.normalize == "none" else normalize_transcript(text)

    def _normalized(self, text: str, language: str) -> str:
        return verbalize(text, language) if self.normalize == "spoken" else text
