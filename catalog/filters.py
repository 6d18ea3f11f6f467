"""Filters: thresholds on columns that reject a row. One field of `Thresholds` is all there is to say of one.

The settings, the stage that applies them, the vocabulary of reasons, the tables of docs/data.md and the report derive
from these fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from catalog.config import Settings
from catalog.reasons import Reason

Comparison = Literal["at least", "at most", "one of", "between"]


@dataclass(frozen=True)
class Measure:
    """A column of numbers."""

    column: str
    title: str = ""
    """Of its histogram; empty for a column that is not stored."""
    unit: str = ""
    lowest: float = 0.0
    highest: float = 1.0
    """The range in which the histogram is exact."""


@dataclass(frozen=True)
class Filter:
    """A threshold: the comparison of a column with the setting that carries it."""

    measure: Measure
    comparison: Comparison
    reason: str
    """Of a row that fails the comparison; one without a value is `no_verdict`."""
    meaning: str
    """Of the reason."""
    when: Literal["audio", "text"] = "audio"
    """Before transcription, or after."""
    rows: Literal["all", "transcribed", "detected"] = "all"
    """Those that are compared: all, those with a transcriber's text, those whose language it detected."""


DURATION = Measure("duration_s", "Duration", "s", 0.0, 600.0)
SNR = Measure("snr_db", "Signal-to-noise ratio", "dB", -20.0, 120.0)
CLIPPING = Measure("clipping", "Samples at full scale", "share")
BANDWIDTH = Measure("bandwidth_hz", "Bandwidth", "Hz", 0.0, 48_000.0)
SILENCE = Measure("silence_share", "Silence", "share")
DNSMOS = Measure("dnsmos", "DNSMOS P.835 overall", "1 to 5", 1.0, 5.0)
SIMILARITY = Measure("speaker_similarity", "Speaker similarity within the utterance", "cosine", -1.0, 1.0)
LANGUAGE = Measure("language")
LANGUAGE_PROBABILITY = Measure("language_probability", "Probability of the language", "0 to 1")
CHARACTERS = Measure("characters")
RATE = Measure("chars_per_s", "Characters per second", "1/s", 0.0, 100.0)
CONFIDENCE = Measure("text_confidence", "Transcriber's confidence", "0 to 1")
LOGPROB = Measure("avg_logprob", "Transcriber's mean log-probability", "nat", -5.0, 0.0)
COMPRESSION = Measure("compression_ratio", "Compression ratio of the transcript", "", 0.0, 20.0)

_LENGTH = "text_length", "fewer or more characters than the settings allow"
_LANGUAGE = "wrong_language", "not an allowed language, or too unsure of it"


class Thresholds(Settings):
    """Least and most that a row may have, in the order in which they are checked; None: not checked."""

    min_duration_s: Annotated[
        float | None,
        Filter(DURATION, "at least", Reason.TOO_SHORT, Reason.TOO_SHORT.meaning),
    ] = Field(default=None, ge=0)
    max_duration_s: Annotated[
        float | None,
        Filter(DURATION, "at most", Reason.TOO_LONG, Reason.TOO_LONG.meaning),
    ] = Field(default=None, gt=0)
    min_snr_db: Annotated[
        float | None,
        Filter(SNR, "at least", "low_snr", "signal-to-noise ratio below the threshold"),
    ] = None
    max_clipping: Annotated[
        float | None,
        Filter(CLIPPING, "at most", "clipped", "more samples at full scale than allowed"),
    ] = Field(default=None, ge=0, le=1, description="share of samples")
    min_bandwidth_hz: Annotated[
        float | None,
        Filter(BANDWIDTH, "at least", "narrow_band", "bandwidth below the threshold: telephone speech, say"),
    ] = Field(default=None, gt=0)
    max_silence_share: Annotated[
        float | None,
        Filter(SILENCE, "at most", "mostly_silent", "more silence than allowed"),
    ] = Field(default=None, ge=0, le=1)
    min_dnsmos: Annotated[
        float | None,
        Filter(DNSMOS, "at least", "low_dnsmos", "DNSMOS below the threshold"),
    ] = Field(default=None, ge=1, le=5)
    min_speaker_similarity: Annotated[
        float | None,
        Filter(SIMILARITY, "at least", "several_speakers", "the voice changes within the utterance"),
    ] = Field(default=None, ge=-1, le=1, description="needs a model in `speakers`")
    languages: Annotated[
        tuple[str, ...] | None,
        Filter(LANGUAGE, "one of", *_LANGUAGE, "text"),
    ] = Field(default=None, description="the allowed ones; en allows en-us")
    min_language_probability: Annotated[
        float | None,
        Filter(LANGUAGE_PROBABILITY, "at least", *_LANGUAGE, "text", "detected"),
    ] = Field(default=None, ge=0, le=1, description="where detected")
    min_chars: Annotated[
        int | None,
        Filter(CHARACTERS, "at least", *_LENGTH, "text"),
    ] = Field(default=None, ge=0, description="characters of text without white space")
    max_chars: Annotated[
        int | None,
        Filter(CHARACTERS, "at most", *_LENGTH, "text"),
    ] = Field(default=None, ge=1)
    chars_per_s: Annotated[
        dict[str, tuple[float, float]],
        Filter(
            RATE,
            "between",
            "text_mismatch",
            "the text cannot belong to this audio (characters per second)",
            "text",
        ),
    ] = Field(
        default_factory=dict, description="language -> least and most characters a second; `*` for the others"
    )
    min_avg_logprob: Annotated[
        float | None,
        Filter(
            LOGPROB,
            "at least",
            "low_confidence",
            "the transcriber's `avg_logprob` is below the threshold",
            "text",
            "transcribed",
        ),
    ] = Field(default=None, le=0, description="of a transcriber")
    max_compression_ratio: Annotated[
        float | None,
        Filter(
            COMPRESSION,
            "at most",
            "repetitive_text",
            "`compression_ratio` is above the threshold: a transcriber's loop",
            "text",
            "transcribed",
        ),
    ] = Field(default=None, gt=0, description="of a transcriber's text")

    @model_validator(mode="after")
    def _bounds_agree(self) -> Self:
        bounds = {
            name: (getattr(self, f"min_{name}"), getattr(self, f"max_{name}"))
            for name in ("duration_s", "chars")
        }
        bounds |= {f"chars_per_s.{language}": pair for language, pair in self.chars_per_s.items()}
        for name, (least, most) in bounds.items():
            if least is not None and most is not None and not least <= most:
                raise ValueError(f"{name}: at least {least:g} and at most {most:g} leaves nothing")
        if self.languages is not None and not self.languages:
            raise ValueError("languages is empty, which allows none; leave it out to allow all")
        return self

    def active(self) -> dict[str, Filter]:
        """The filters whose setting is given, by its name, in the order of their checks."""
        return {name: one for name, one in FILTERS.items() if getattr(self, name) not in (None, {})}


FILTERS: dict[str, Filter] = {
    name: one
    for name, field in Thresholds.model_fields.items()
    for one in field.metadata
    if isinstance(one, Filter)
}
"""Setting -> filter, in the order of their checks."""

REASONS: dict[str, str] = {str(reason): reason.meaning for reason in Reason} | {
    str(one.reason): one.meaning for one in FILTERS.values()
}
"""Every word of the `reason` column and its meaning."""

MEASURES: tuple[Measure, ...] = tuple(
    dict.fromkeys(one for one in (*(each.measure for each in FILTERS.values()), CONFIDENCE) if one.title)
)
"""The numbers that are stored of rows."""
