"""Thresholds -> rejected rows, each with its value and the rule.

Checks run in a fixed order and the first that fails decides:

- `audio`: duration, snr_db, clipping, bandwidth_hz, silence_share, dnsmos, speaker_similarity;
- `text`: language, language_probability, characters of text, chars_per_s, avg_logprob, compression_ratio.

`avg_logprob`, `compression_ratio` and `language_probability` are a transcriber's: they are asked only of rows whose
`text_source` names one (`whisperx:...`, `transformers:...`), and the probability not where the language was given.
Everything else is asked of every row. A value that is null or NaN where a threshold is set is `no_verdict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from catalog.reasons import Reason
from pipelines.rows import reject, with_column

Row = Mapping[str, Any]
Verdict = tuple[Reason, str]
OTHER_LANGUAGES = "*"
TRANSCRIBERS = ("whisperx:", "transformers:")


@dataclass(frozen=True)
class Thresholds:
    """Least and most that a row may have; None: not asked."""

    min_duration_s: float | None = None
    max_duration_s: float | None = None
    min_snr_db: float | None = None
    max_clipping: float | None = None
    min_bandwidth_hz: float | None = None
    max_silence_share: float | None = None
    min_dnsmos: float | None = None
    min_speaker_similarity: float | None = None
    languages: tuple[str, ...] | None = None
    """Allowed language codes; `en` allows `en-us` too."""
    min_language_probability: float | None = None
    min_chars: int | None = None
    """Characters of text, white space left out."""
    max_chars: int | None = None
    chars_per_s: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Least and most characters a second by language, `*` for the others; empty: not asked."""
    min_avg_logprob: float | None = None
    max_compression_ratio: float | None = None

    def __post_init__(self) -> None:
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


# He et al. 2024 (Emilia, arXiv:2407.05361) keep segments of 3 to 30 s, DNSMOS P.835 overall above 3.0 and languages
# detected with at least 80 %, and drop characters of outlying average duration: beyond 1.5 interquartile ranges of
# the quartiles of each language of their own data, which they do not publish. The bounds here are no such statistic;
# they are wide ones that hold what read speech reached: en 9.9 to 20.5 (1.5 interquartile ranges, 614 utterances),
# de 11.3 to 19.9 (182), single recordings with pauses down to 6.9 in es, fr, it and pt, 5.1 in ko, 4 in ja, 2.8 in zh.
_ALPHABET, _SYLLABLES = (5.0, 25.0), (2.0, 12.0)
EMILIA = Thresholds(
    min_duration_s=3.0,
    max_duration_s=30.0,
    min_dnsmos=3.0,
    min_language_probability=0.8,
    chars_per_s={"zh": _SYLLABLES, "ja": _SYLLABLES, "ko": _SYLLABLES, OTHER_LANGUAGES: _ALPHABET},
)
PRESETS: dict[str, Thresholds] = {"none": Thresholds(), "emilia": EMILIA}


class FilterStage:
    """Rows in flight -> the same rows, those that miss a threshold rejected. Rejected rows pass as they are."""

    def __init__(self, thresholds: Thresholds, when: Literal["audio", "text"]) -> None:
        self._thresholds = thresholds
        self._checks = _audio_checks if when == "audio" else _text_checks
        self._when = when

    def __call__(self, table: pa.Table) -> pa.Table:
        """Reject what the thresholds refuse; `text` also fills `chars_per_s` where text and duration are known."""
        if self._when == "text":
            table = with_chars_per_s(table)
        verdicts: dict[int, Verdict] = {}
        slim = table.drop_columns([name for name in ("samples", "words") if name in table.column_names])
        for number, row in enumerate(slim.to_pylist()):
            if row["reason"] is None:
                verdict = next(self._checks(row, self._thresholds), None)
                if verdict is not None:
                    verdicts[number] = verdict
        return reject(table, verdicts)


def characters(text: str) -> int:
    """Characters of text, white space left out."""
    return sum(not character.isspace() for character in text)


def with_chars_per_s(table: pa.Table) -> pa.Table:
    """Fill `chars_per_s` where it is null: characters of text, white space left out, by seconds of the utterance."""
    known = table["chars_per_s"].to_pylist() if "chars_per_s" in table.column_names else [None] * len(table)
    rates = [
        characters(text) / duration_s if rate is None and text is not None and duration_s else rate
        for rate, text, duration_s in zip(
            known, table["text"].to_pylist(), table["duration_s"].to_pylist(), strict=True
        )
    ]
    return with_column(table, "chars_per_s", rates)


def _audio_checks(row: Row, limits: Thresholds) -> Iterator[Verdict]:
    yield from _least(row, "duration_s", limits.min_duration_s, Reason.TOO_SHORT)
    yield from _most(row, "duration_s", limits.max_duration_s, Reason.TOO_LONG)
    yield from _least(row, "snr_db", limits.min_snr_db, Reason.LOW_SNR)
    yield from _most(row, "clipping", limits.max_clipping, Reason.CLIPPED)
    yield from _least(row, "bandwidth_hz", limits.min_bandwidth_hz, Reason.NARROW_BAND)
    yield from _most(row, "silence_share", limits.max_silence_share, Reason.MOSTLY_SILENT)
    yield from _least(row, "dnsmos", limits.min_dnsmos, Reason.LOW_DNSMOS)
    yield from _least(row, "speaker_similarity", limits.min_speaker_similarity, Reason.SEVERAL_SPEAKERS)


def _text_checks(row: Row, limits: Thresholds) -> Iterator[Verdict]:
    transcribed = (row["text_source"] or "").startswith(TRANSCRIBERS)
    yield from _language(row, limits)
    language_given = row["language"] is not None and row.get("language_probability") is None
    if transcribed and not language_given:
        yield from _least(row, "language_probability", limits.min_language_probability, Reason.WRONG_LANGUAGE)
    text = row["text"]
    counted = {"characters": None if text is None else characters(text)}
    yield from _least(counted, "characters", limits.min_chars, Reason.TEXT_LENGTH)
    yield from _most(counted, "characters", limits.max_chars, Reason.TEXT_LENGTH)
    yield from _rate(row, limits)
    if transcribed:
        yield from _least(row, "avg_logprob", limits.min_avg_logprob, Reason.LOW_CONFIDENCE)
        yield from _most(row, "compression_ratio", limits.max_compression_ratio, Reason.REPETITIVE_TEXT)


def _language(row: Row, limits: Thresholds) -> Iterator[Verdict]:
    if limits.languages is None:
        return
    language = row["language"]
    if language is None:
        yield Reason.NO_VERDICT, "no language, allowed are " + ", ".join(limits.languages)
    elif not {_code(language), _code(language).partition("-")[0]} & {_code(one) for one in limits.languages}:
        yield Reason.WRONG_LANGUAGE, f"language {language}, allowed are {', '.join(limits.languages)}"


def _rate(row: Row, limits: Thresholds) -> Iterator[Verdict]:
    if not limits.chars_per_s:
        return
    bounds = {_code(language): pair for language, pair in limits.chars_per_s.items()}
    code = _code(row["language"] or OTHER_LANGUAGES)
    pair = bounds.get(code) or bounds.get(code.partition("-")[0]) or bounds.get(OTHER_LANGUAGES)
    if pair is None:
        yield Reason.NO_VERDICT, f"no bounds of chars_per_s for language {row['language'] or 'unknown'}"
        return
    yield from _least(row, "chars_per_s", pair[0], Reason.TEXT_MISMATCH)
    yield from _most(row, "chars_per_s", pair[1], Reason.TEXT_MISMATCH)


def _code(language: str) -> str:
    return language.lower().replace("_", "-")


def _least(row: Row, name: str, bound: float | None, reason: Reason) -> Iterator[Verdict]:
    return _judge(row, name, bound, reason, "at least", lambda value, limit: value >= limit)


def _most(row: Row, name: str, bound: float | None, reason: Reason) -> Iterator[Verdict]:
    return _judge(row, name, bound, reason, "at most", lambda value, limit: value <= limit)


def _judge(
    row: Row,
    name: str,
    bound: float | None,
    reason: Reason,
    words: str,
    holds: Callable[[float, float], bool],
) -> Iterator[Verdict]:
    if bound is None:
        return
    value = row.get(name)
    if value is None or math.isnan(value):
        yield Reason.NO_VERDICT, f"no {name}, {words} {bound:g}"
    elif not holds(value, bound):
        yield reason, f"{name} {_shown(value, bound)}, {words} {bound:g}"


def _shown(value: float, bound: float) -> str:
    """Six digits, or all of them where six would look like the bound."""
    short = f"{value:.6g}"
    return repr(value) if float(short) == bound else short
