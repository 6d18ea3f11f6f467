"""Transcripts of rows: checked and, if the settings say so, normalised and turned into phonemes."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from catalog.reasons import Reason
from models.text import espeak
from models.text.lexicon import Lexicon
from models.text.normalize import has_word
from models.text.treatment import Treatment
from pipelines.rows import reject, with_column


class TextStage:
    """Rejects rows without a transcript (`missing_text`) and with one that has no word (`empty_text`).

    `normalize` adds the column `normalized_text`, `phonemes` the column `phonemes`; with both, numbers and symbols are
    written out for the phonemes, too. Rows that do not name their language are taken to be in `language`. A row that
    espeak-ng cannot say is rejected (`no_verdict`). EspeakError where phonemes are wanted and espeak-ng is missing.
    """

    def __init__(
        self,
        missing: Literal["reject", "allow"],
        normalize: bool = False,
        phonemes: bool = False,
        language: str = "en",
        lexicon: Lexicon | None = None,
    ) -> None:
        self._missing, self._normalize, self._phonemes = missing, normalize, phonemes
        self._treatment = Treatment("spoken" if normalize else "transcript", language, lexicon or Lexicon())
        if phonemes:
            espeak.version()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `pipelines.rows.SCHEMA` in and out."""
        if self._missing == "reject":
            table = reject(table, _without_words(table["text"].to_pylist()))
        texts = [
            text if reason is None and text else None
            for text, reason in zip(table["text"].to_pylist(), table["reason"].to_pylist(), strict=True)
        ]
        languages = table["language"].to_pylist()
        if self._normalize:
            normalized = [
                None if text is None else self._treatment.text(text, language)
                for text, language in zip(texts, languages, strict=True)
            ]
            table = with_column(table, "normalized_text", normalized)
        return self._with_phonemes(table, texts, languages) if self._phonemes else table

    def _with_phonemes(
        self, table: pa.Table, texts: list[str | None], languages: list[str | None]
    ) -> pa.Table:
        phones: list[list[str] | None] = []
        verdicts = {}
        for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
            try:
                phones.append(None if text is None else self._treatment.phones(text, language))
            except espeak.EspeakError as error:
                phones.append(None)
                verdicts[row] = (Reason.NO_VERDICT, f"phonemes: {error}")
        return reject(with_column(table, "phonemes", phones), verdicts)


def _without_words(texts: list[str | None]) -> dict[int, tuple[Reason, str]]:
    verdicts = {}
    for row, text in enumerate(texts):
        if text is None:
            verdicts[row] = (Reason.MISSING_TEXT, "no transcript")
        elif not text:
            verdicts[row] = (Reason.EMPTY_TEXT, "the transcript is empty")
        elif not has_word(text):
            verdicts[row] = (Reason.EMPTY_TEXT, f"the transcript {text[:40]!r} holds no word")
    return verdicts
