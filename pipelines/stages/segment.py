"""Recordings without text -> their utterances, cut at pauses of speech."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from catalog.reasons import Reason
from pipelines.audio.containers import Samples
from pipelines.audio.lengths import samples_to_seconds, seconds_to_samples
from pipelines.rows import SCHEMA, samples_array, waves, with_column
from pipelines.speech.vad import CutSettings, Segment, SpeechDetector, cut


@dataclass(frozen=True)
class SegmentSettings(CutSettings):
    """Which recordings are cut, and into what."""

    mode: Literal["auto", "vad", "none"] = "auto"
    """auto: those without text that are longer than `max_s`, if they are to be transcribed; vad: all without text;
    none: nothing."""


class SegmentStage:
    """Rows in flight -> rows in flight; a recording that is cut becomes the rows of its utterances, in order.

    Speech that is too short for an utterance and has no neighbour to join becomes a rejected row (`too_short`), a
    recording without speech is rejected (`no_speech`). Utterances are views of their recording: nothing is copied.
    """

    def __init__(self, settings: SegmentSettings, sample_rate: int, transcribing: bool) -> None:
        self._settings, self._sample_rate = settings, sample_rate
        self._on = settings.mode == "vad" or (settings.mode == "auto" and transcribing)
        self._detector = SpeechDetector() if self._on else None

    def __call__(self, table: pa.Table) -> pa.Table:
        """Cut every recording of the batch that has samples and no text."""
        if self._detector is None:
            return table
        parts: list[_Part] = []
        for row, (wave, text) in enumerate(zip(waves(table), table["text"].to_pylist(), strict=True)):
            if wave is None or text or self._fits(wave):
                parts.append(_Part(row, wave))
            else:
                parts += self._cut(row, wave, self._detector)
        return self._exploded(table, parts)

    def _fits(self, wave: Samples) -> bool:
        return (
            self._settings.mode == "auto"
            and samples_to_seconds(len(wave), self._sample_rate) <= self._settings.max_s
        )

    def _cut(self, row: int, wave: Samples, detector: SpeechDetector) -> list[_Part]:
        probabilities = detector.speech_probabilities(wave, self._sample_rate)
        rules = self._settings
        segments = cut(probabilities, samples_to_seconds(len(wave), self._sample_rate), rules)
        if not segments:
            rule = f"speech is {rules.min_speech_s:g} s of {rules.threshold:g} or more"
            detail = f"highest probability of speech {probabilities.max(initial=0.0):.2f}; {rule}"
            return [_Part(row, None, None, Reason.NO_SPEECH, detail)]
        parts = []
        for segment in segments:
            first = seconds_to_samples(segment.start_s, self._sample_rate)
            samples = wave[first : seconds_to_samples(segment.stop_s, self._sample_rate)]
            if segment.length_s < rules.min_s:
                detail = f"{segment.length_s:.3f} s of speech by itself; the least is {rules.min_s:g} s"
                parts.append(_Part(row, None, segment, Reason.TOO_SHORT, detail))
            else:
                parts.append(_Part(row, samples, segment))
        return parts

    def _exploded(self, table: pa.Table, parts: list[_Part]) -> pa.Table:
        result = table.drop_columns(["samples"]).take(pa.array([part.row for part in parts], pa.int64()))
        changed = ("id", "start_s", "duration_s", "reason", "detail")
        columns = {name: result[name].to_pylist() for name in changed}
        for at, part in enumerate(parts):
            if part.reason is not None:
                columns["reason"][at], columns["detail"][at] = part.reason.value, part.detail
            if part.segment is not None:
                offset_s = columns["start_s"][at] or 0.0
                start_s, stop_s = offset_s + part.segment.start_s, offset_s + part.segment.stop_s
                columns["id"][at] += f"#t={start_s:.3f},{stop_s:.3f}"
                columns["start_s"][at], columns["duration_s"][at] = start_s, part.segment.length_s
        for name in changed:
            result = with_column(result, name, columns[name])
        # A chunk a row: a single wave goes into an array without a copy.
        samples = pa.chunked_array(
            [samples_array([part.samples]) for part in parts], SCHEMA.field("samples").type
        )
        return result.append_column(SCHEMA.field("samples"), samples).select(table.column_names)


@dataclass(frozen=True)
class _Part:
    """A row of the result: which row it comes from, and what it is of it."""

    row: int
    samples: Samples | None
    segment: Segment | None = None
    reason: Reason | None = None
    detail: str = ""
