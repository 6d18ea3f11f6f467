"""The fixed vocabulary of the `reason` column; `catalog.filters` adds the reasons of its thresholds."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word per rejected row, with its meaning."""

    meaning: str

    def __new__(cls, word: str, meaning: str = "") -> Reason:
        """`word` is the value."""
        reason = str.__new__(cls, word)
        reason._value_ = word
        reason.meaning = meaning
        return reason

    UNREADABLE = (
        "unreadable",
        "no decoder can read it as audio; with the name of a tar, Parquet or Arrow file: what this file held behind "
        "the damage (a sound file in its place is read by the next run, the rejected row stays)",
    )
    UNAVAILABLE = (
        "unavailable",
        "the storage did not give it (absent, no permission, an error of reading): never stored, so that the next run "
        "takes it up again; too many of them end the job",
    )
    DECODER_CRASHED = (
        "decoder_crashed",
        "decoding it ended the process, stood still, or needed more memory than the settings allow, after bounded "
        "retries",
    )
    CHANGED = "changed", "its bytes changed while the job ran"
    EMPTY = "empty", "no samples"
    SILENT = "silent", "all samples are zero or below the silence threshold"
    NON_FINITE = "non_finite", "samples that are NaN or infinite"
    TOO_SHORT = "too_short", "shorter than the settings allow"
    TOO_LONG = "too_long", "longer than the settings allow"
    NO_SPEECH = "no_speech", "voice activity detection found none"
    MISSING_TEXT = "missing_text", "no transcript"
    EMPTY_TEXT = "empty_text", "a transcript without a word"
    TEXT_ENCODING = "text_encoding", "a transcript that is not UTF-8"
    MISALIGNED = "misaligned", "the transcript could not be aligned with the audio"
    NO_VERDICT = (
        "no_verdict",
        "a measure that a filter needs could not be computed; a missing verdict is never a pass",
    )
    DUPLICATE_AUDIO = "duplicate_audio", "another recording of the source has the same bytes"
    DUPLICATE_ID = "duplicate_id", "another recording of the source has the same id"
    INVALID_ROW = (
        "invalid_row",
        "an imported row that breaks a rule: codes of another shape or range, a value of another type; or a tar's "
        "member whose JSON is broken",
    )
