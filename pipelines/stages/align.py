"""Long recordings with a transcript -> utterances with their part of it; and the words of utterances in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from catalog.reasons import Reason
from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.audio.lengths import samples_to_seconds, seconds_to_samples
from pipelines.rows import Part, explode, reject, waves, with_column
from pipelines.speech.alignment.interface import SAMPLE_RATE, AlignedWord, Aligner, AlignmentError
from pipelines.speech.alignment.pauses import Levels
from pipelines.speech.alignment.text_units import Word, join_words, phrases, split_words
from pipelines.speech.alignment.utterances import Lengths, Utterance, utterances

_OF_THE_WHOLE = ("words", "normalized_text", "phonemes", "chars_per_s")
"""Columns that describe a text, and so no longer hold for a part of it."""
_OWN_SHARE = 0.7
_LONG_RUN, _ISLAND = 2, 2
"""Phrases."""


@dataclass(frozen=True)
class AlignSettings:
    """Alignment of transcripts. All times in seconds."""

    engine: Literal["espeak-dtw", "ctc"] = "espeak-dtw"
    model: str = ""
    """For `ctc`: a directory or a hub name of a CTC model that transformers loads."""
    language: str = "en"
    """Of rows without a language."""
    longer_than_s: float = 30.0
    """Recordings with text that are longer are cut; others stay as they are."""
    min_s: float = 3.0
    max_s: float = 30.0
    target_s: float = 10.0
    """The length to aim at where sentences allow a choice."""
    pad_s: float = 0.15
    """Silence kept before and after an utterance."""
    min_score: float | None = None
    """A phrase below it is rejected; None for the engine's own."""
    min_share: float = 0.3
    """Share of the words that must align; below it the whole recording is rejected."""
    device: str = "cpu"

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.target_s <= self.max_s:
            raise ValueError(
                f"align: min_s {self.min_s:g}, target_s {self.target_s:g}, max_s {self.max_s:g} must not decrease"
            )
        if self.engine == "ctc" and not self.model:
            raise ValueError("align: engine ctc needs a model, a directory or a hub name")


class _Row(NamedTuple):
    """A part of a row."""

    start_s: float
    end_s: float
    text: str
    samples: Samples | None
    reason: Reason | None
    detail: str | None


def open_aligner(settings: AlignSettings) -> Aligner:
    """The engine that the settings name; raises UsageError for a model that cannot be loaded."""
    if settings.engine == "ctc":
        from pipelines.speech.alignment.ctc import CtcAligner

        return CtcAligner(settings.model, settings.device)
    from pipelines.speech.alignment.espeak_dtw import EspeakDtw

    return EspeakDtw(settings.language)


class AlignStage:
    """Cuts recordings longer than `longer_than_s` that have a text; other rows pass as they are."""

    def __init__(self, settings: AlignSettings, sample_rate: int, aligner: Aligner | None = None) -> None:
        self._settings, self._sample_rate = settings, sample_rate
        self._aligner = aligner or open_aligner(settings)
        self._min_score = self._aligner.min_score if settings.min_score is None else settings.min_score
        self._lengths = Lengths(settings.min_s, settings.max_s, settings.target_s, settings.pad_s)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `pipelines.rows.SCHEMA` in and out, the parts of a recording in its place and in order.

        Every word of a transcript is in exactly one row, accepted or rejected: `misaligned`, `too_short`, `too_long`.
        """
        rows = waves(table)
        texts, languages = table["text"].to_pylist(), table["language"].to_pylist()
        starts = table["start_s"].to_pylist()
        verdicts: dict[int, tuple[Reason, str]] = {}
        parts: dict[int, list[_Row]] = {}
        for row, samples in enumerate(rows):
            limit = seconds_to_samples(self._settings.longer_than_s, self._sample_rate)
            if samples is None or not texts[row] or len(samples) <= limit:
                continue
            try:
                parts[row] = self._parts(samples, texts[row], languages[row], starts[row] or 0.0)
            except AlignmentError as error:
                verdicts[row] = (Reason.MISALIGNED, str(error))
        return _replace(reject(table, verdicts), parts)

    def _parts(self, samples: Samples, text: str, language: str | None, offset_s: float) -> list[_Row]:
        words = split_words(text)
        heard = resample(samples, self._sample_rate, SAMPLE_RATE)
        aligned = self._aligner.align(heard, words, language)
        levels = Levels.of(heard)
        del heard
        spans = _spans(words, aligned, self._min_score)
        kept = sum(stop - first for first, stop, score in spans if score is None)
        if kept < self._settings.min_share * len(words):
            mean = float(np.mean([word.score for word in aligned]))
            raise AlignmentError(
                f"{kept} of {len(words)} words align (mean score {mean:.3f}, a phrase needs {self._min_score:g}); "
                f"the least share is {self._settings.min_share:g}"
            )
        length_s = samples_to_seconds(len(samples), self._sample_rate)
        free_s = 0.0
        found: list[_Row] = []
        for first, stop, score in spans:
            if score is not None:
                detail = f"score {score:.3f}; the least is {self._min_score:g}"
                start, end = aligned[first].start_s, max(word.end_s for word in aligned[first:stop])
                part = join_words(words[first:stop])
                found.append(_Row(offset_s + start, offset_s + end, part, None, Reason.MISALIGNED, detail))
                continue
            within_s = (free_s, length_s)
            spoken = utterances(words[first:stop], aligned[first:stop], levels, self._lengths, within_s)
            free_s = spoken[-1].end_s
            found += [
                self._row(
                    utterance,
                    join_words(words[first + utterance.first : first + utterance.stop]),
                    samples,
                    offset_s,
                )
                for utterance in spoken
            ]
        return found

    def _row(self, utterance: Utterance, text: str, samples: Samples, offset_s: float) -> _Row:
        start = seconds_to_samples(utterance.start_s, self._sample_rate)
        stop = min(len(samples), seconds_to_samples(utterance.end_s, self._sample_rate))
        seconds = samples_to_seconds(max(0, stop - start), self._sample_rate)
        reason, detail = None, None
        if seconds < self._lengths.min_s:
            reason, detail = Reason.TOO_SHORT, f"{seconds:.3f} s long; the least is {self._lengths.min_s:g} s"
        elif seconds > self._lengths.max_s:
            reason, detail = Reason.TOO_LONG, f"{seconds:.3f} s long; the most is {self._lengths.max_s:g} s"
        start_s = offset_s + samples_to_seconds(start, self._sample_rate)
        wave = samples[start:stop] if reason is None else None
        return _Row(start_s, start_s + seconds, text, wave, reason, detail)


class WordsStage:
    """Fills `words` of rows with samples and text, seconds from the start of the utterance.

    Null where the text does not align, and for rows longer than `max_s`; no row is rejected for it.
    """

    def __init__(self, settings: AlignSettings, sample_rate: int, aligner: Aligner | None = None) -> None:
        self._settings, self._sample_rate = settings, sample_rate
        self._aligner = aligner or open_aligner(settings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows of `pipelines.rows.SCHEMA` in and out, with the column `words`."""
        texts, languages = table["text"].to_pylist(), table["language"].to_pylist()
        found = [
            None if samples is None or not text else self._words(samples, text, language)
            for samples, text, language in zip(waves(table), texts, languages, strict=True)
        ]
        return with_column(table, "words", found)

    def _words(self, samples: Samples, text: str, language: str | None) -> list[dict[str, object]] | None:
        if samples_to_seconds(len(samples), self._sample_rate) > self._settings.max_s:
            return None
        words = split_words(text)
        try:
            aligned = self._aligner.align(resample(samples, self._sample_rate, SAMPLE_RATE), words, language)
        except AlignmentError:
            return None
        return [{"word": word.text, **place._asdict()} for word, place in zip(words, aligned, strict=True)]


def _spans(
    words: Sequence[Word], aligned: Sequence[AlignedWord], min_score: float
) -> list[tuple[int, int, float | None]]:
    """Runs of words (first, stop, score): score None where their phrases align, else the mean of those that do not.

    A phrase aligns if the mean of its score, counted twice, and its neighbours' reaches `min_score`, and its own comes
    near it: short phrases vary. `_trusted` then takes back what stands beside text that is not spoken.
    """
    groups = phrases(words)
    scores = [float(np.mean([aligned[index].score for index in group])) for group in groups]
    around = [
        float(np.mean([own, *scores[max(0, index - 1) : index + 2]])) for index, own in enumerate(scores)
    ]
    good = _trusted(
        [
            near >= min_score and own >= _OWN_SHARE * min_score
            for own, near in zip(scores, around, strict=True)
        ]
    )
    spans: list[tuple[int, int, float | None]] = []
    for aligns, run in itertools.groupby(range(len(groups)), key=lambda index: good[index]):
        members = list(run)
        score = None if aligns else float(np.mean([min(scores[index], around[index]) for index in members]))
        spans.append((groups[members[0]].start, groups[members[-1]].stop, score))
    return spans


def _trusted(good: Sequence[bool]) -> list[bool]:
    """Without the phrase on either side of a long run of bad ones, and without short runs of good ones between bad.

    The path is still off there. Of four readings of 4 minutes, each with 15 foreign sentences put into the middle of
    its transcript and once with 16 taken out, 13 sentences were kept though more than 1 s off, and 4 of 60 foreign
    ones; like this 4 and none, while 333 of 342 that are right stay.
    """
    trusted = list(good)
    for first, stop in _runs(good):
        if not good[first] and stop - first >= _LONG_RUN:
            trusted[max(0, first - 1) : stop + 1] = [False] * (min(len(good), stop + 1) - max(0, first - 1))
    result = list(trusted)
    for first, stop in _runs(trusted):
        if trusted[first] and stop - first <= _ISLAND and first > 0 and stop < len(good):
            result[first:stop] = [False] * (stop - first)
    return result


def _runs(values: Sequence[bool]) -> list[tuple[int, int]]:
    """Runs of equal values (first, stop)."""
    changes = [index for index in range(1, len(values)) if values[index] != values[index - 1]]
    return list(itertools.pairwise([0, *changes, len(values)]))


def _replace(table: pa.Table, parts: dict[int, list[_Row]]) -> pa.Table:
    """The table with the parts of its rows in their place; columns that a part does not change are inherited."""
    if not parts:
        return table
    recordings, taken = table["recording_id"].to_pylist(), set[str]()
    rows: list[Part] = []
    for row, samples in enumerate(waves(table)):
        if row in parts:
            rows += (Part(row, part.samples, _changes(recordings[row], part, taken)) for part in parts[row])
        else:
            rows.append(Part(row, samples))
    return explode(table, rows)


def _changes(recording: str, part: _Row, taken: set[str]) -> dict[str, object]:
    return {
        "id": _identifier(recording, part, taken),
        "text": part.text,
        "start_s": part.start_s,
        "duration_s": part.end_s - part.start_s,
        "reason": part.reason,
        "detail": part.detail,
        **dict.fromkeys(_OF_THE_WHOLE),
    }


def _identifier(recording: str, part: _Row, taken: set[str]) -> str:
    """`recording#t=start,stop`. Rejected parts may have no length; a millisecond keeps their ids apart."""
    stop = part.end_s
    while (found := f"{recording}#t={part.start_s:.3f},{stop:.3f}") in taken:
        stop += 0.001
    taken.add(found)
    return found
