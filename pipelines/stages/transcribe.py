"""Rows without a text get one from a transcriber, in batches that cross recordings."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from catalog.command import UsageError
from catalog.reasons import Reason
from models.text.normalize import normalize_transcript
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.audio.lengths import seconds_to_samples
from pipelines.rows import reject, speaking_rate, waves, with_column
from pipelines.speech.transcription import load_transcriber
from pipelines.speech.transcription.batches import BatchRunner, Failure
from pipelines.speech.transcription.interface import (
    SAMPLE_RATE,
    WINDOW_S,
    Language,
    Transcriber,
    TranscribeSettings,
    Transcript,
    compression_ratio,
    language_code,
)
from pipelines.speech.transcription.windows import windows_of


@dataclass(frozen=True)
class _Window:
    wave: Samples
    language: str | None


@dataclass(frozen=True)
class _Job:
    """A row to transcribe: its windows at SAMPLE_RATE, and its language as far as it is known."""

    row: int
    recording_id: str
    windows: list[Samples]
    language: str | None
    detected: Language | None = None


class TranscribeStage:
    """Rows in flight -> the same rows with `text`, its source and its scores, in the same order.

    Rows that are rejected pass through. A row that has a text keeps it, unless the settings say `which: all`. A wave
    of more than 30 s is transcribed in windows that are joined. A row that the engine fails on, or whose language it
    does not know, is rejected (`missing_text`). A row's text depends on its recording only, for its language.
    """

    def __init__(
        self,
        settings: TranscribeSettings,
        sample_rate: int,
        device: str = "cpu",
        threads: int = 1,
        load: Callable[[TranscribeSettings, str, int], Transcriber] = load_transcriber,
    ) -> None:
        """`sample_rate` of the rows' samples, Hz. UsageError or JobError for a model that cannot be loaded."""
        self._settings = settings
        self._sample_rate = sample_rate
        self._transcriber = load(settings, device, threads)
        self._batches = BatchRunner(settings.batch_size)
        self._language: str | None = None
        if settings.language:
            self._language = self._code(settings.language)
            if self._language is None:
                raise UsageError(f"transcribe.language: {self._unknown(settings.language)}")

    def __call__(self, table: pa.Table) -> pa.Table:
        """Whole recordings in and out: the language of a recording is detected from its first utterances."""
        verdicts: dict[int, tuple[Reason, str]] = {}
        jobs = self._jobs(table, verdicts)
        jobs = self._detect(jobs, verdicts)
        windows = [_Window(wave, job.language) for job in jobs for wave in job.windows]
        results = iter(self._batches.run(self._transcribe, windows))
        spoken = {}
        for job in jobs:
            parts = [next(results) for _ in job.windows]
            failed = [part for part in parts if isinstance(part, Failure)]
            if failed:
                verdicts[job.row] = (Reason.MISSING_TEXT, f"transcription failed: {failed[0].message}")
            else:
                spoken[job.row] = (job, [part for part in parts if not isinstance(part, Failure)])
        return reject(self._with_speed(self._with_texts(table, spoken)), verdicts)

    def _jobs(self, table: pa.Table, verdicts: dict[int, tuple[Reason, str]]) -> list[_Job]:
        texts, languages = table["text"].to_pylist(), table["language"].to_pylist()
        recordings = table["recording_id"].to_pylist()
        jobs = []
        for row, wave in enumerate(waves(table)):
            if wave is None or (texts[row] and self._settings.which == "missing"):
                continue
            language = self._code(languages[row]) if languages[row] else self._language
            if languages[row] and language is None and self._transcriber.languages:
                verdicts[row] = (Reason.MISSING_TEXT, self._unknown(languages[row]))
                continue
            heard = resample(wave, self._sample_rate, SAMPLE_RATE)
            jobs.append(_Job(row, recordings[row], windows_of(heard, SAMPLE_RATE, WINDOW_S), language))
        return jobs

    def _detect(self, jobs: list[_Job], verdicts: dict[int, tuple[Reason, str]]) -> list[_Job]:
        """Languages of recordings; one of a single window is left to `transcribe`, which encodes it anyway."""
        if not self._transcriber.detects:
            return jobs
        unknown: dict[str, list[Samples]] = {}
        for job in jobs:
            if job.language is None:
                unknown.setdefault(job.recording_id, []).extend(job.windows)
        several = {recording: windows for recording, windows in unknown.items() if len(windows) > 1}
        found = self._batches.run(
            self._transcriber.detect, [_opening(windows) for windows in several.values()]
        )
        by_recording = dict(zip(several, found, strict=True))
        known = []
        for job in jobs:
            language = by_recording.get(job.recording_id) if job.language is None else None
            if isinstance(language, Failure):
                verdicts[job.row] = (Reason.MISSING_TEXT, f"language detection failed: {language.message}")
            elif language is None:
                known.append(job)
            else:
                known.append(replace(job, language=language.code, detected=language))
        return known

    def _transcribe(self, windows: Sequence[_Window]) -> list[Transcript]:
        return self._transcriber.transcribe(
            [window.wave for window in windows], [window.language for window in windows]
        )

    def _with_texts(self, table: pa.Table, spoken: dict[int, tuple[_Job, list[Transcript]]]) -> pa.Table:
        names = ("text", "text_source", "language", "language_probability")
        scores = ("text_confidence", "avg_logprob", "compression_ratio")
        columns: dict[str, list[object]] = {
            name: table[name].to_pylist() if name in table.column_names else [None] * len(table)
            for name in (*names, *scores)
        }
        for row, (job, parts) in spoken.items():
            text = normalize_transcript("".join(part.text for part in parts))
            average = _average(parts)
            detected = job.detected or parts[0].detected
            columns["text"][row] = text
            columns["text_source"][row] = self._settings.text_source
            columns["avg_logprob"][row] = average
            columns["text_confidence"][row] = None if average is None else math.exp(average)
            columns["compression_ratio"][row] = compression_ratio(text)
            columns["language_probability"][row] = detected.probability if detected else None
            if columns["language"][row] is None or columns["language"][row] == "":
                columns["language"][row] = detected.code if detected else self._only_language(job)
        for name, values in columns.items():
            table = with_column(table, name, values)
        return table

    def _with_speed(self, table: pa.Table) -> pa.Table:
        """Characters per second of rows with samples and a text; null for the others."""
        seconds = [None if wave is None else len(wave) / self._sample_rate for wave in waves(table)]
        texts = pa.array([text or None for text in table["text"].to_pylist()], pa.string())
        return with_column(table, "chars_per_s", speaking_rate(texts, pa.array(seconds, pa.float64())))

    def _only_language(self, job: _Job) -> str | None:
        known = self._transcriber.languages
        return job.language or (next(iter(known)) if len(known) == 1 else None)

    def _code(self, language: str) -> str | None:
        known = self._transcriber.languages
        return language_code(language, known) if known else language

    def _unknown(self, language: str) -> str:
        known = sorted(self._transcriber.languages)
        shown = ", ".join(known) if len(known) <= 10 else f"{len(known)} languages: {', '.join(known)}"
        return f"language {language!r} is none of the model's: it knows {shown}"


def _opening(windows: Sequence[Samples]) -> Samples:
    """The first WINDOW_S of waves that follow each other."""
    limit = seconds_to_samples(WINDOW_S, SAMPLE_RATE)
    taken, length = [], 0
    for window in windows:
        if length >= limit:
            break
        taken.append(window[: limit - length])
        length += len(taken[-1])
    joined: Samples = np.concatenate(taken)
    return joined


def _average(parts: Sequence[Transcript]) -> float | None:
    """Mean log-probability of the tokens of all parts that have any; None without one."""
    scored = [(part.logprob, part.tokens) for part in parts if part.logprob is not None]
    if not scored:
        return None
    return sum(logprob for logprob, _ in scored) / sum(tokens for _, tokens in scored)
