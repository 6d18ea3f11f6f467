"""Thresholds (`catalog.filters`) -> rejected rows, each with its value and the rule.

Checks run in the order of `FILTERS`, and the first that fails decides. A value that is null or NaN where a threshold is
set is `no_verdict`. The transcriber's own columns are compared only in rows whose `text_source` names one
(`whisperx:...`, `transformers:...`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import pyarrow as pa

from catalog.filters import CHARACTERS, RATE, Comparison, Filter, Thresholds
from catalog.reasons import Reason
from pipelines.rows import Row, characters, chars_per_s, reject, with_column

Verdict = tuple[str, str]
OTHER_LANGUAGES = "*"
TRANSCRIBERS = ("whisperx:", "transformers:")

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
        self._when = when
        filters = thresholds.active().items()
        self._filters = [(one, getattr(thresholds, name)) for name, one in filters if one.when == when]

    def __call__(self, table: pa.Table) -> pa.Table:
        """Reject what the thresholds refuse; `text` also fills `chars_per_s` where text and duration are known."""
        if self._when == "text":
            table = with_column(table, RATE.column, chars_per_s(table))
        verdicts: dict[int, Verdict] = {}
        for number, row in enumerate(self._compared(table).to_pylist()):
            if row["reason"] is None and (verdict := self._verdict(row)) is not None:
                verdicts[number] = verdict
        return reject(table, verdicts)

    def _compared(self, table: pa.Table) -> pa.Table:
        """The columns that the filters read."""
        measured = {one.measure.column for one, _ in self._filters}
        names = {"reason", "text_source", "language", "language_probability", *measured}
        slim = table.select([name for name in table.column_names if name in names])
        if CHARACTERS.column in measured:
            slim = slim.append_column(CHARACTERS.column, characters(table["text"]))
        return slim

    def _verdict(self, row: Row) -> Verdict | None:
        for one, bound in self._filters:
            if _concerns(one, row) and (verdict := _COMPARISONS[one.comparison](one, row, bound)) is not None:
                return verdict
        return None


def _concerns(one: Filter, row: Row) -> bool:
    """True for the rows that a filter compares."""
    is_transcribed: bool = (row["text_source"] or "").startswith(TRANSCRIBERS)
    is_given = row["language"] is not None and row.get("language_probability") is None
    concerns: dict[str, bool] = {
        "all": True,
        "transcribed": is_transcribed,
        "detected": is_transcribed and not is_given,
    }
    return concerns[one.rows]


def _at_least(one: Filter, row: Row, bound: float) -> Verdict | None:
    return _judge(one, row, f"at least {bound:g}", bound, lambda value: value >= bound)


def _at_most(one: Filter, row: Row, bound: float) -> Verdict | None:
    return _judge(one, row, f"at most {bound:g}", bound, lambda value: value <= bound)


def _judge(one: Filter, row: Row, rule: str, bound: float, holds: Callable[[float], bool]) -> Verdict | None:
    column = one.measure.column
    value = row.get(column)
    if value is None or math.isnan(value):
        return Reason.NO_VERDICT, f"no {column}, {rule}"
    return None if holds(value) else (one.reason, f"{column} {_shown(value, bound)}, {rule}")


def _one_of(one: Filter, row: Row, allowed: tuple[str, ...]) -> Verdict | None:
    """`en` allows `en-us`, too."""
    column, rule = one.measure.column, f"allowed are {', '.join(allowed)}"
    value = row[column]
    if value is None:
        return Reason.NO_VERDICT, f"no {column}, {rule}"
    if {_code(value), _code(value).partition("-")[0]} & {_code(name) for name in allowed}:
        return None
    return one.reason, f"{column} {value}, {rule}"


def _between(one: Filter, row: Row, bounds: Mapping[str, tuple[float, float]]) -> Verdict | None:
    """Bounds by language."""
    by_code = {_code(language): pair for language, pair in bounds.items()}
    code = _code(row["language"] or OTHER_LANGUAGES)
    pair = by_code.get(code) or by_code.get(code.partition("-")[0]) or by_code.get(OTHER_LANGUAGES)
    if pair is None:
        return (
            Reason.NO_VERDICT,
            f"no bounds of {one.measure.column} for language {row['language'] or 'unknown'}",
        )
    return _at_least(one, row, pair[0]) or _at_most(one, row, pair[1])


_COMPARISONS: dict[Comparison, Callable[[Filter, Row, Any], Verdict | None]] = {
    "at least": _at_least,
    "at most": _at_most,
    "one of": _one_of,
    "between": _between,
}


def _code(language: str) -> str:
    return language.lower().replace("_", "-")


def _shown(value: float, bound: float) -> str:
    """Six digits, or all of them where six would look like the bound."""
    short = f"{value:.6g}"
    return repr(value) if float(short) == bound else short
