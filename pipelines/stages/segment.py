"""Recordings without text -> their utterances, cut at pauses of speech."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from catalog.reasons import Reason
from pipelines.audio.containers import Samples
from pipelines.audio.lengths import samples_to_seconds, seconds_to_samples
from pipelines.rows import Part, explode, waves
from pipelines.speech.vad import CutSettings, SpeechDetector, find_segments


@dataclass(frozen=True)
class SegmentSettings(CutSettings):
    """Selects the recordings to cut, and the lengths of the utterances."""

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
        ids, starts = table["id"].to_pylist(), table["start_s"].to_pylist()
        parts: list[Part] = []
        for row, (wave, text) in enumerate(zip(waves(table), table["text"].to_pylist(), strict=True)):
            if wave is None or text or self._fits(wave):
                parts.append(Part(row, wave))
            else:
                found = self._cut(wave, ids[row], starts[row] or 0.0, self._detector)
                parts += (Part(row, samples, changes) for samples, changes in found)
        return explode(table, parts)

    def _fits(self, wave: Samples) -> bool:
        return (
            self._settings.mode == "auto"
            and samples_to_seconds(len(wave), self._sample_rate) <= self._settings.max_s
        )

    def _cut(
        self, wave: Samples, row_id: str, offset_s: float, detector: SpeechDetector
    ) -> Iterator[tuple[Samples | None, dict[str, object]]]:
        """The utterances of a recording: samples, and the columns that differ from the recording's."""
        probabilities = detector.speech_probabilities(wave, self._sample_rate)
        rules = self._settings
        segments = find_segments(probabilities, samples_to_seconds(len(wave), self._sample_rate), rules)
        if not segments:
            rule = f"speech is {rules.min_speech_s:g} s of {rules.threshold:g} or more"
            detail = f"highest probability of speech {probabilities.max(initial=0.0):.2f}; {rule}"
            yield None, {"reason": Reason.NO_SPEECH, "detail": detail}
        for segment in segments:
            start_s, stop_s = offset_s + segment.start_s, offset_s + segment.stop_s
            changes: dict[str, object] = {
                "id": f"{row_id}#t={start_s:.3f},{stop_s:.3f}",
                "start_s": start_s,
                "duration_s": segment.length_s,
            }
            if segment.length_s < rules.min_s:
                detail = f"{segment.length_s:.3f} s of speech by itself; the least is {rules.min_s:g} s"
                yield None, {**changes, "reason": Reason.TOO_SHORT, "detail": detail}
            else:
                first = seconds_to_samples(segment.start_s, self._sample_rate)
                yield wave[first : seconds_to_samples(segment.stop_s, self._sample_rate)], changes
