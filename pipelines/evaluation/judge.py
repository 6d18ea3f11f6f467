"""Judgements of recordings: what a recogniser hears, speaker similarity, quality, distance from a reference.

Each row is judged by itself. A row that cannot be judged has a `reason` and nothing else. T samples, N frames of a
recording, C cepstra, P pairs of frames, D channels.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import torch

from models.metrics.mel_cepstrum import HOP_S, f0_correlation, mel_cepstra, mel_cepstral_distance
from models.metrics.pitch import f0
from models.metrics.word_errors import character_errors, word_errors
from pipelines.audio.containers import AudioError, Samples
from pipelines.audio.decode import decode
from pipelines.audio.lengths import samples_to_seconds
from pipelines.evaluation.settings import EvaluateSettings, Judges
from pipelines.rows import SCHEMA, Row, samples_array
from pipelines.speech.alignment.dtw import Distances, warp
from pipelines.speech.quality.dnsmos import Dnsmos
from pipelines.stages.transcribe import TranscribeStage

if TYPE_CHECKING:
    from torch import Tensor

    from models.semantic.speaker import SpeakerVectors

SAMPLE_RATE = 16_000
"""Hz, of all judges."""

TO_JUDGE = pa.schema(
    [(name, pa.string()) for name in ("id", "wave", "text", "language", "prompt", "reference")]
)
JUDGEMENTS = pa.schema([("id", pa.string()), ("figures", pa.string())])
"""`figures` is JSON: what there is depends on the judges."""


class Judge:
    """The judges that are there, each loaded when it is first needed."""

    def __init__(self, settings: EvaluateSettings, judges: Judges, device: str) -> None:
        self._settings, self._judges, self._device = settings, judges, device
        self._sound = lru_cache(maxsize=256)(lambda path: _sound(_decoded("reference", path)))
        self._voice = lru_cache(maxsize=256)(lambda name, path: self._vector(_decoded(name, path)))

    def __call__(self, table: pa.Table) -> pa.Table:
        """TO_JUDGE -> JUDGEMENTS, in order."""
        found = [
            {"id": row["id"], "figures": json.dumps(row, ensure_ascii=False)}
            for row in self.judge(table.to_pylist())
        ]
        return pa.Table.from_pylist(found, schema=JUDGEMENTS)

    def judge(self, rows: Sequence[Row]) -> list[Row]:
        """Judge rows with `id`, `wave` (a path), `text`, `language`, and paths `prompt` and `reference` or None.

        `reference` is None for the references themselves.
        """
        found: dict[str, Row] = {}
        waves: dict[str, Samples] = {}
        for row in rows:
            try:
                waves[row["id"]] = samples = _decoded("recording", row["wave"])
                found[row["id"]] = self._of_the_sound(row, samples)
            except (AudioError, ValueError, OSError) as error:
                found[row["id"]] = {"reason": " ".join(str(error).split())}
        if self._judges.recogniser is not None:
            sound = [row for row in rows if "reason" not in found[row["id"]]]
            for row, (heard, reason) in zip(sound, self._heard(sound, waves), strict=True):
                found[row["id"]] = {"reason": reason} if reason else found[row["id"]] | _errors(row, heard)
        return [{"id": row["id"], "reason": None} | found[row["id"]] for row in rows]

    def _of_the_sound(self, row: Row, samples: Samples) -> Row:
        """The figures that need no recogniser."""
        judged: Row = {"duration_s": samples_to_seconds(len(samples), SAMPLE_RATE)}
        if self._judges.dnsmos is not None:
            judged["dnsmos"] = self._dnsmos(samples)
        name = "prompt" if row["prompt"] else "reference"
        if self._judges.speaker is not None and row[name]:
            judged["speaker_similarity"] = _cosine(self._vector(samples), self._voice(name, row[name]))
        if row["reference"]:
            judged |= _compared(_sound(samples), self._sound(row["reference"]))
        return judged

    def _heard(self, rows: Sequence[Row], waves: Mapping[str, Samples]) -> list[tuple[str, str | None]]:
        """The recogniser's text of each row, and the reason where it fails."""
        if not rows:
            return []
        columns: dict[str, pa.Array] = {
            "id": pa.array([row["id"] for row in rows], pa.string()),
            "language": pa.array([row["language"] for row in rows], pa.string()),
            "samples": samples_array([waves[row["id"]] for row in rows]),
        }
        columns["recording_id"] = columns["id"]
        arrays = [columns.get(field.name, pa.nulls(len(rows), field.type)) for field in SCHEMA]
        results = self._recogniser(pa.Table.from_arrays(arrays, schema=SCHEMA))
        return list(zip(results["text"].to_pylist(), results["detail"].to_pylist(), strict=True))

    def _vector(self, samples: Samples) -> Tensor | None:
        """A unit vector (D,); None where the recording is too short for one."""
        wave_BT = torch.from_numpy(np.array(samples))[None].to(self._device)
        found = self._speaker.embed(wave_BT, torch.tensor([len(samples)], device=self._device))
        return found.latents_BTD[0, 0].cpu() if int(found.lengths_B[0]) else None

    @cached_property
    def _recogniser(self) -> TranscribeStage:
        assert self._settings.transcribe is not None
        settings = replace(self._settings.transcribe, which="all")
        return TranscribeStage(settings, SAMPLE_RATE, self._device, torch.get_num_threads())

    @cached_property
    def _speaker(self) -> SpeakerVectors:
        from models.semantic.speaker import load

        assert self._settings.speaker is not None
        return load(self._settings.speaker, self._device)

    @cached_property
    def _dnsmos(self) -> Dnsmos:
        return Dnsmos(device=self._device)


class _Sound(NamedTuple):
    cepstra_NC: Tensor
    f0_N: Tensor
    duration_s: float


def _sound(samples: Samples) -> _Sound:
    wave_T = torch.from_numpy(np.array(samples))
    pitch_N = f0(wave_T, SAMPLE_RATE, HOP_S)
    return _Sound(mel_cepstra(wave_T), pitch_N, samples_to_seconds(len(samples), SAMPLE_RATE))


def _compared(sound: _Sound, reference: _Sound) -> Row:
    """Distances over the frames that the cheapest alignment of the cepstra pairs."""
    rows_NC, columns_NC = sound.cepstra_NC, reference.cepstra_NC
    distances = Distances.plain(rows_NC.numpy(), columns_NC.numpy())
    path = warp(distances, np.zeros(len(rows_NC), np.int64), len(columns_NC), 1.0)
    counts = path[:, 1] - path[:, 0] + 1
    rows_P = torch.from_numpy(np.repeat(np.arange(len(path)), counts))
    columns_P = torch.from_numpy(
        np.concatenate([np.arange(first, last + 1) for first, last in path.tolist()])
    )
    return {
        "mel_cepstral_distance": mel_cepstral_distance(rows_NC[rows_P], columns_NC[columns_P]),
        "f0_correlation": f0_correlation(sound.f0_N[rows_P], reference.f0_N[columns_P]),
        "duration_ratio": sound.duration_s / reference.duration_s,
    }


def _errors(row: Row, heard: str) -> Row:
    given = (row["text"], heard, row["language"])
    return {
        "heard": heard,
        "words": asdict(word_errors(*given)),
        "characters": asdict(character_errors(*given)),
    }


def _cosine(one_D: Tensor | None, other_D: Tensor | None) -> float | None:
    return None if one_D is None or other_D is None else float(one_D @ other_D)


def _decoded(name: str, path: str) -> Samples:
    try:
        samples = decode(Path(path), SAMPLE_RATE).samples
    except (AudioError, OSError) as error:
        raise ValueError(f"{name} {path}: {' '.join(str(error).split())}") from error
    if not len(samples):
        raise ValueError(f"{name} {path}: holds no samples")
    return samples
