"""Why a recording or utterance was rejected: the fixed vocabulary of the `reason` column."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word a rejected row; docs/data.md says what each means."""

    UNREADABLE = "unreadable"
    DECODER_CRASHED = "decoder_crashed"
    CHANGED = "changed"
    EMPTY = "empty"
    SILENT = "silent"
    NON_FINITE = "non_finite"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    NO_SPEECH = "no_speech"
    MISSING_TEXT = "missing_text"
    EMPTY_TEXT = "empty_text"
    TEXT_ENCODING = "text_encoding"
    TEXT_MISMATCH = "text_mismatch"
    LOW_QUALITY = "low_quality"
    DUPLICATE_ID = "duplicate_id"
