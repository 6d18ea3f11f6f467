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
    TEXT_LENGTH = "text_length"
    MISALIGNED = "misaligned"
    LOW_CONFIDENCE = "low_confidence"
    REPETITIVE_TEXT = "repetitive_text"
    WRONG_LANGUAGE = "wrong_language"
    LOW_DNSMOS = "low_dnsmos"
    LOW_SNR = "low_snr"
    CLIPPED = "clipped"
    NARROW_BAND = "narrow_band"
    MOSTLY_SILENT = "mostly_silent"
    SEVERAL_SPEAKERS = "several_speakers"
    NO_VERDICT = "no_verdict"
    DUPLICATE_AUDIO = "duplicate_audio"
    DUPLICATE_ID = "duplicate_id"
    INVALID_ROW = "invalid_row"
