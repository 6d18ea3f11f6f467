"""Transcripts as rows keep them: judged, and where asked for, normalised and as phonemes."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from catalog.reasons import Reason
from models.text.espeak import EspeakError
from models.text.phonemes import phonemize
from models.text.verbalize import verbalize
from pipelines.rows import reject, with_column


class TextStage:
    """Rejects rows without a transcript (`missing_text`) and with one that has no word (`empty_text`).

    `normalize` adds the column `normalized_text`, `phonemes` the column `phonemes` (of the normalised text if there
    is one). Rows that do not name their language are taken to be in `language`. A row that espeak-ng cannot say is
    rejected (`no_verdict`).
    """

    def __init__(
        self,
        missing: Literal["reject", "allow"],
        normalize: bool = False,
        phonemes: bool = False,
        language: str = "en",
    ) -> None:
        self._missing, self._language = missing, language
        self._normalize, self._phonemes = normalize, phonemes

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `utterances.SCHEMA` in and out."""
        if self._missing == "reject":
            table = reject(table, _without_words(table["text"].to_pylist()))
        if not (self._normalize or self._phonemes):
            return table
        languages = [language or self._language for language in table["language"].to_pylist()]
        accepted = [reason is None for reason in table["reason"].to_pylist()]
        texts = [
            text if kept and text else None
            for text, kept in zip(table["text"].to_pylist(), accepted, strict=True)
        ]
        if self._normalize:
            texts = [
                None if text is None else verbalize(text, language)
                for text, language in zip(texts, languages, strict=True)
            ]
            table = with_column(table, "normalized_text", texts)
        return _with_phonemes(table, texts, languages) if self._phonemes else table


def _without_words(texts: list[str | None]) -> dict[int, tuple[Reason, str]]:
    verdicts = {}
    for row, text in enumerate(texts):
        if text is None:
            verdicts[row] = (Reason.MISSING_TEXT, "no transcript")
        elif not text:
            verdicts[row] = (Reason.EMPTY_TEXT, "the transcript is empty")
    return verdicts


def _with_phonemes(table: pa.Table, texts: list[str | None], languages: list[str]) -> pa.Table:
    phones: list[list[str] | None] = []
    verdicts = {}
    for row, (text, language) in enumerate(zip(texts, languages, strict=True)):
        try:
            phones.append(None if text is None else phonemize([text], language)[0])
        except EspeakError as error:
            phones.append(None)
            verdicts[row] = (Reason.NO_VERDICT, f"phonemes: {error}")
    return reject(with_column(table, "phonemes", phones), verdicts)
