"""Waves -> similarity of the voices within an utterance, and speaker labels within a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.audio.containers import Samples
from pipelines.audio.decode import resample
from pipelines.audio.lengths import seconds_to_samples
from pipelines.rows import waves, with_column

Embeddings = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class SpeakerSettings:
    """Comparison of voices. `model`: a directory or hub name that transformers' AutoModelForAudioXVector loads."""

    model: str = "microsoft/wavlm-base-plus-sv"
    window_s: float = 3.0
    hop_s: float = 1.5
    min_s: float = 0.5
    """Shorter utterances get neither similarity nor speaker: the network has no frame to pool."""
    same_speaker: float = 0.86
    """Cosine from which two utterances share a speaker; the example on the card of wavlm-base-plus-sv uses 0.86."""
    check: bool = True
    """Fill `speaker_similarity`."""
    label: bool = True
    """Fill `speaker` where it is null."""

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise ValueError(
                f"hop_s = {self.hop_s:g} must be above 0 and at most window_s = {self.window_s:g}"
            )
        if not 0 < self.min_s <= self.window_s:
            raise ValueError(
                f"min_s = {self.min_s:g} must be above 0 and at most window_s = {self.window_s:g}"
            )
        if not -1 <= self.same_speaker <= 1:
            raise ValueError(f"same_speaker = {self.same_speaker:g} must be a cosine, from -1 to 1")


class SpeakersStage:
    """Rows in flight -> the same rows with `speaker_similarity`, and `speaker` where it was null.

    Similarity: the lowest cosine between any two windows of the utterance, 1 where there is only one window. Labels:
    `<recording_id>/S0`, `/S1`, ... by first appearance, from average-linkage clustering of the utterances of that
    recording; other recordings do not matter. Needs whole recordings in a table, as stages have them.
    """

    def __init__(
        self, settings: SpeakerSettings, sample_rate: int, device: str = "cpu", threads: int = 1
    ) -> None:
        """Load the model; `sample_rate` is that of the rows."""
        import torch

        if device == "cpu":
            torch.set_num_threads(threads)
        self._settings = settings
        self._sample_rate = sample_rate
        self._embedder = _Embedder(settings.model, device)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Embed every row that has samples."""
        found = [None if wave is None else self._windows(wave) for wave in waves(table)]
        if self._settings.check:
            similarities = [None if one is None else lowest_similarity(one) for one in found]
            table = with_column(table, "speaker_similarity", similarities)
        if self._settings.label:
            table = with_column(table, "speaker", self._labels(table, found))
        return table

    def _windows(self, wave: Samples) -> Embeddings | None:
        """Unit vectors (windows, D) of an utterance; None where it is too short."""
        samples = resample(wave, self._sample_rate, SAMPLE_RATE)
        if len(samples) < seconds_to_samples(self._settings.min_s, SAMPLE_RATE):
            return None
        window = seconds_to_samples(self._settings.window_s, SAMPLE_RATE)
        hop = seconds_to_samples(self._settings.hop_s, SAMPLE_RATE)
        return self._embedder(
            [samples[start : start + window] for start in starts(len(samples), window, hop)]
        )

    def _labels(self, table: pa.Table, found: Sequence[Embeddings | None]) -> list[str | None]:
        labels: list[str | None] = table["speaker"].to_pylist()
        rows: dict[str, list[int]] = {}
        for row, recording_id in enumerate(table["recording_id"].to_pylist()):
            if labels[row] is None and found[row] is not None:
                rows.setdefault(recording_id, []).append(row)
        for recording_id, members in rows.items():
            voices = np.stack([_unit(one.mean(0)) for row in members if (one := found[row]) is not None])
            for row, number in zip(members, cluster(voices, self._settings.same_speaker), strict=True):
                labels[row] = f"{recording_id}/S{number}"
        return labels


def starts(samples: int, window: int, hop: int) -> list[int]:
    """First samples of windows that cover all samples; the last one ends with them. One window where there are few."""
    if samples <= window:
        return [0]
    return [*range(0, samples - window, hop), samples - window]


def lowest_similarity(vectors: Embeddings) -> float:
    """Lowest cosine between two of the unit vectors (N, D); 1 for a single one."""
    return float(np.clip((vectors @ vectors.T).min(), -1.0, 1.0)) if len(vectors) > 1 else 1.0


def cluster(vectors: Embeddings, same_speaker: float) -> list[int]:
    """A number for each unit vector (N, D), from 0 by first appearance.

    Average linkage on cosine distance, cut where clusters are less similar than `same_speaker`.
    """
    if len(vectors) < 2:
        return [0] * len(vectors)
    from scipy.cluster.hierarchy import fcluster, linkage

    similarity = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    distances = 1.0 - similarity[np.triu_indices(len(vectors), 1)]
    # Unit vectors of float32 are a rounding away from 1, to either side; linkage refuses negative distances.
    distances[distances < 1e-6] = 0.0
    found = fcluster(linkage(distances, "average"), 1.0 - same_speaker, "distance")
    numbers: dict[int, int] = {}
    return [numbers.setdefault(int(one), len(numbers)) for one in found]


def _unit(vector: Embeddings) -> Embeddings:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


class _Embedder:
    """Windows of equal length -> unit vectors (N, D). The windows of one call share no padding and no statistics."""

    def __init__(self, model: str, device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        from models.building import as_stored

        self._prepare = AutoFeatureExtractor.from_pretrained(model, trust_remote_code=False)
        if self._prepare.sampling_rate != SAMPLE_RATE:
            raise ValueError(f"{model} expects {self._prepare.sampling_rate} Hz, must be {SAMPLE_RATE}")
        with as_stored(model):
            loaded = AutoModelForAudioXVector.from_pretrained(model, trust_remote_code=False)
        self._model = loaded.to(device).eval()
        self._device = device

    def __call__(self, windows: Sequence[Samples]) -> Embeddings:
        import torch

        inputs = self._prepare(list(windows), sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            embeddings = self._model(inputs["input_values"].to(self._device)).embeddings
        vectors: Embeddings = torch.nn.functional.normalize(embeddings.float(), dim=-1).cpu().numpy()
        return vectors
