"""Transcripts as rows keep them: a row without one is rejected, unless the settings allow it."""

from __future__ import annotations

from typing import Literal

import pyarrow as pa

from catalog.reasons import Reason
from pipelines.utterances import reject


class TextStage:
    """Rejects rows without a transcript (`missing_text`) and with one that has no word (`empty_text`)."""

    def __init__(self, missing: Literal["reject", "allow"]) -> None:
        self._missing = missing

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `utterances.SCHEMA` in and out."""
        if self._missing == "allow":
            return table
        verdicts = {}
        for row, text in enumerate(table["text"].to_pylist()):
            if text is None:
                verdicts[row] = (Reason.MISSING_TEXT, "no transcript")
            elif not text:
                verdicts[row] = (Reason.EMPTY_TEXT, "the transcript is empty")
        return reject(table, verdicts)
