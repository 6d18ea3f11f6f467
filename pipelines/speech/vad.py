"""Voice activity detection (silero-vad), and cutting a recording into utterances at its pauses.

`find_segments` is WhisperX's cut and merge (Bain et al. 2023, section 2.1) in one pass: speech with short pauses stays
together, as in Emilia-Pipe (He et al. 2024); a longer run than an utterance may be is cut where the probability of
speech is lowest in the second half of what may stay together, so a pause if there is one.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipelines.audio.containers import Samples

SAMPLE_RATE = 16_000
WINDOW = 512
WINDOW_MS = 32
_CONTEXT = 64
"""Samples before a window that the model sees with it."""
_BLOCK_WINDOWS = 256
_STATE = (1, 1, 128)
_EXIT_BELOW = 0.15
"""Speech ends where the probability falls this far below the threshold (silero's default)."""
_AROUND = np.hanning(16)[1:-1] / np.hanning(16).sum()
"""Pauses are compared by the mean probability over half a second: the longer of two pauses is the deeper one."""
_LEAST_MARGIN_S = 0.2


@dataclass(frozen=True)
class CutSettings:
    """Bounds of an utterance, and of the speech and silence within. ValueError where `max_s` leaves no place to cut."""

    min_s: float = 3.0
    max_s: float = 30.0
    pad_s: float = 0.1
    """Kept around speech, less where a neighbour is closer or the utterance is as long as it may be."""
    threshold: float = 0.5
    min_silence_s: float = 0.1
    """Shorter silence is speech (silero's default)."""
    min_speech_s: float = 0.25
    """Shorter sounds are no speech (silero's default)."""
    max_pause_s: float = 2.0
    """Speech after a longer pause is another utterance (Emilia-Pipe's MERGE_GAP)."""

    def __post_init__(self) -> None:
        if self.max_s < 2 * self.min_s + _LEAST_MARGIN_S:
            raise ValueError(
                f"max_s = {self.max_s:g} must be at least twice min_s = {self.min_s:g} and {_LEAST_MARGIN_S:g} more"
            )


class Segment(NamedTuple):
    """A segment of a recording, in whole milliseconds."""

    start_ms: int
    stop_ms: int

    @property
    def start_s(self) -> float:
        """Seconds from the start of the recording."""
        return self.start_ms / 1000

    @property
    def stop_s(self) -> float:
        """Seconds from the start of the recording."""
        return self.stop_ms / 1000

    @property
    def length_s(self) -> float:
        """Seconds."""
        return (self.stop_ms - self.start_ms) / 1000


class SpeechDetector:
    """silero-vad's recurrent network, on one thread of the CPU, in blocks of windows: memory does not grow."""

    def __init__(self) -> None:
        import onnxruntime  # type: ignore[import-untyped]

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(_weights()), sess_options=options, providers=["CPUExecutionProvider"]
        )

    def speech_probabilities(self, samples: Samples, sample_rate: int) -> npt.NDArray[np.float32]:
        """Probability of speech (N,) in each 32 ms of a mono wave; the last window is filled up with zeros."""
        found = []
        hidden = cell = np.zeros(_STATE, np.float32)
        context = np.zeros(_CONTEXT, np.float32)
        for block in _blocks(samples, sample_rate):
            windows = np.concatenate([context, block])
            context = windows[-_CONTEXT:]
            seen = np.lib.stride_tricks.sliding_window_view(windows, _CONTEXT + WINDOW)[::WINDOW]
            probabilities, hidden, cell = self._session.run(
                ["speech_probs", "hn", "cn"], {"input": np.ascontiguousarray(seen), "h": hidden, "c": cell}
            )
            found.append(probabilities.reshape(-1))
        return np.concatenate(found) if found else np.zeros(0, np.float32)


def find_segments(
    probabilities: npt.NDArray[np.float32], duration_s: float, settings: CutSettings | None = None
) -> list[Segment]:
    """Utterances of a recording from its speech probabilities, one a window of 32 ms.

    Segments are in order, disjoint, inside the recording, at most `max_s` long, and hold all speech. One shorter than
    `min_s` is speech that has no neighbour within `max_pause_s`: too short for an utterance.
    """
    rules = settings or CutSettings()
    spoken = speech(probabilities, rules)
    pieces = [
        piece
        for run in _runs(spoken, rules.max_pause_s)
        for piece in _split(run, spoken, probabilities, rules)
    ]
    end_ms = math.floor(round(duration_s * 1000, 6))
    bare = [
        Segment(start * WINDOW_MS, min(stop * WINDOW_MS, end_ms))
        for start, stop in pieces
        if start * WINDOW_MS < end_ms
    ]
    return _padded(bare, end_ms, rules)


def speech(probabilities: npt.NDArray[np.float32], rules: CutSettings) -> npt.NDArray[np.int64]:
    """Segments of speech (N, 2), first window and the one after the last, by silero's rules.

    Speech starts at `threshold`, ends where the probability falls 0.15 below for `min_silence_s`, and is dropped when
    it is shorter than `min_speech_s`.
    """
    off = max(rules.threshold - _EXIT_BELOW, 0.01)
    decided = (probabilities >= rules.threshold) | (probabilities < off)
    latest = np.maximum.accumulate(np.where(decided, np.arange(len(probabilities)), -1))
    on = (latest >= 0) & (probabilities[latest] >= rules.threshold)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    spans = edges.reshape(-1, 2).astype(np.int64)
    spans = _joined(spans, math.ceil(rules.min_silence_s * 1000 / WINDOW_MS) - 1)
    kept: npt.NDArray[np.int64] = spans[np.diff(spans).reshape(-1) * WINDOW_MS >= rules.min_speech_s * 1000]
    return kept


def _weights() -> Path:
    # Importing silero_vad imports torch; its weights are wanted, not its code.
    spec = importlib.util.find_spec("silero_vad")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "silero-vad is not installed; its package holds the weights of segmentation"
        )
    # Seven times as fast as one window a call, and eleven times as fast as the TorchScript model.
    return Path(spec.submodule_search_locations[0]) / "data" / "silero_vad_16k_sequence.onnx"


def _blocks(samples: Samples, sample_rate: int) -> Iterator[Samples]:
    """The wave at 16 kHz in pieces of whole windows."""
    size = _BLOCK_WINDOWS * WINDOW
    held: list[Samples] = []
    length = 0
    for part in _resampled(samples, sample_rate):
        held.append(part)
        length += len(part)
        if length >= size:
            whole = np.concatenate(held)
            usable = length // WINDOW * WINDOW
            yield whole[:usable]
            held, length = [whole[usable:]], length - usable
    if length:
        rest = np.concatenate(held)
        yield np.concatenate([rest, np.zeros(-length % WINDOW, np.float32)])


def _resampled(samples: Samples, sample_rate: int) -> Iterator[Samples]:
    import soxr

    size = _BLOCK_WINDOWS * WINDOW * max(1, round(sample_rate / SAMPLE_RATE))
    starts = range(0, len(samples), size)
    if sample_rate == SAMPLE_RATE:
        yield from (samples[start : start + size] for start in starts)
        return
    stream = soxr.ResampleStream(sample_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for start in starts:
        block = np.ascontiguousarray(samples[start : start + size])
        yield stream.resample_chunk(block, last=start + size >= len(samples))


def _joined(spans: npt.NDArray[np.int64], gap: int) -> npt.NDArray[np.int64]:
    """Spans with gaps of at most `gap` windows closed."""
    apart = spans[1:, 0] - spans[:-1, 1] > gap
    first = np.concatenate([[True], apart])[: len(spans)]
    last = np.concatenate([apart, [True]])[-len(spans) :] if len(spans) else first
    return np.stack([spans[first, 0], spans[last, 1]], axis=1)


def _runs(spoken: npt.NDArray[np.int64], max_pause_s: float) -> Iterator[tuple[int, int]]:
    yield from _joined(spoken, math.floor(max_pause_s * 1000 / WINDOW_MS)).tolist()


def _split(
    run: tuple[int, int],
    spoken: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float32],
    rules: CutSettings,
) -> Iterator[tuple[int, int]]:
    """Pieces of a run, none longer than an utterance with its padding and, if the run is not, none too short."""
    start, stop = run
    least = math.ceil(rules.min_s * 1000 / WINDOW_MS) + 1
    most = max(2 * least - 1, math.floor((rules.max_s - 2 * rules.pad_s) * 1000 / WINDOW_MS))
    while stop - start > most:
        cuts = np.arange(start + (most + 1) // 2, min(start + most, stop - least) + 1)
        before, after = _sides(cuts, spoken)
        usable = (before - start >= least) & (stop - after >= least)
        if not usable.any():
            before = after = cuts
            usable = np.ones(len(cuts), bool)
        depth = np.where(usable, _quiet(probabilities, cuts), np.inf)
        deepest = len(cuts) - 1 - int(depth[::-1].argmin())
        yield start, int(before[deepest])
        start = int(after[deepest])
    yield start, stop


def _sides(
    cuts: npt.NDArray[np.int64], spoken: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """End of speech before each cut, and its next start; the cut itself within speech."""
    before = np.searchsorted(spoken[:, 0], cuts, side="left") - 1
    after = np.searchsorted(spoken[:, 1], cuts, side="right")
    return np.minimum(spoken[before, 1], cuts), np.maximum(
        spoken[np.minimum(after, len(spoken) - 1), 0], cuts
    )


def _quiet(probabilities: npt.NDArray[np.float32], cuts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Mean probability around each of consecutive cuts; a cut lies between the window before and its own."""
    half = len(_AROUND) // 2
    at = np.arange(cuts[0] - half, cuts[-1] + half).clip(0, len(probabilities) - 1)
    return np.convolve(probabilities[at].astype(np.float64), _AROUND, mode="valid")


def _padded(bare: list[Segment], end_ms: int, rules: CutSettings) -> list[Segment]:
    pad, most = round(rules.pad_s * 1000), math.floor(rules.max_s * 1000)
    padded = []
    for at, (start, stop) in enumerate(bare):
        room = max(0, most - (stop - start)) // 2
        before = (start - bare[at - 1].stop_ms) // 2 if at else start
        after = (bare[at + 1].start_ms - stop) // 2 if at + 1 < len(bare) else end_ms - stop
        padded.append(Segment(start - min(pad, room, before), stop + min(pad, room, after)))
    return padded
