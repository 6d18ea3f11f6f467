"""Sentences to WAV files: the worker of `synthesize`. One table in, one result row a sentence out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipelines.audio.containers import AudioError
from pipelines.audio.decode import decode
from pipelines.audio.lengths import samples_to_seconds
from pipelines.audio.wav import write_wav

if TYPE_CHECKING:
    from models.systems import Prompt

REQUESTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("prompt_text", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("output", pa.string(), nullable=False),
    ]
)
RESULTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("reason", pa.string()),
    ]
)


def row_seed(seed: int, identifier: str) -> int:
    """A sentence's own seed: what is drawn for it does not depend on the batch or the worker it falls into."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identifier}".encode()).digest()[:7], "little")


class Speak:
    """Loads a system once, then speaks tables of REQUESTS; a sentence that cannot be spoken gets a reason."""

    def __init__(self, model: str, device: str, seed: int, sampling: Mapping[str, Any]) -> None:
        from models.systems import load_system

        self._system = load_system(model, device)
        self._seed, self._sampling = seed, dict(sampling)
        # A setting that the system does not have is a mistake in the job, not in each of its sentences.
        self._system.check("a", None, 1, **self._sampling)
        self._prompt = lru_cache(maxsize=64)(self._read_prompt)

    def __call__(self, requests: pa.Table) -> pa.Table:
        """REQUESTS -> RESULTS, in order; every good row's WAV is written before this returns."""
        rows = requests.to_pylist()
        reasons: dict[str, str] = {}
        ready: list[tuple[dict[str, Any], Prompt | None]] = []
        for row in rows:
            try:
                prompt = self._prompt(row["prompt"], row["prompt_text"] or "") if row["prompt"] else None
                self._system.check(row["text"], prompt, self._frames(row["duration_s"]), **self._sampling)
                ready.append((row, prompt))
            except (AudioError, ValueError, OSError) as error:
                reasons[row["id"]] = " ".join(str(error).split())
        durations = self._speak(ready)
        return pa.Table.from_pylist([_result(row, durations, reasons) for row in rows], schema=RESULTS)

    def _speak(self, ready: Sequence[tuple[dict[str, Any], Prompt | None]]) -> dict[str, float]:
        if not ready:
            return {}
        waves = self._system.synthesize(
            [row["text"] for row, _ in ready],
            [prompt for _, prompt in ready],
            generator=[torch.Generator().manual_seed(row_seed(self._seed, row["id"])) for row, _ in ready],
            target_lengths=[self._frames(row["duration_s"]) for row, _ in ready],
            **self._sampling,
        )
        durations: dict[str, float] = {}
        for (row, _), wave in zip(ready, waves, strict=True):
            samples = wave.wave_BT[0, : int(wave.lengths_B[0])].numpy()
            Path(row["output"]).parent.mkdir(parents=True, exist_ok=True)
            write_wav(Path(row["output"]), samples, wave.sample_rate)
            durations[row["id"]] = samples_to_seconds(len(samples), wave.sample_rate)
        return durations

    def _frames(self, duration_s: float | None) -> int | None:
        codec = self._system.codec
        return (
            None if duration_s is None else max(1, round(duration_s * codec.sample_rate / codec.hop_length))
        )

    def _read_prompt(self, path: str, text: str) -> Prompt:
        from models.codecs.interface import Wave
        from models.systems import Prompt

        audio = decode(Path(path), self._system.codec.sample_rate)
        samples_BT = torch.from_numpy(audio.samples)[None]
        return Prompt(Wave(samples_BT, torch.tensor([samples_BT.shape[1]]), audio.sample_rate), text)


def _result(
    row: Mapping[str, Any], durations: Mapping[str, float], reasons: Mapping[str, str]
) -> dict[str, Any]:
    spoken = row["id"] in durations
    return {
        "id": row["id"],
        "output": row["output"] if spoken else None,
        "duration_s": durations.get(row["id"]),
        "reason": reasons.get(row["id"]),
    }
