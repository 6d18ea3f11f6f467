"""Sentences to WAV files: the worker of `synthesize`. One table in, one result row a sentence out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import torch

from catalog.command import UsageError
from pipelines.audio.containers import AudioError
from pipelines.audio.decode import decode
from pipelines.audio.lengths import samples_to_seconds
from pipelines.audio.wav import write_wav
from pipelines.rows import Row

if TYPE_CHECKING:
    from models.checkpoints import Json
    from models.prompt import Prompt
    from models.system import SpeakRequest, Speech

REQUESTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("prompt_text", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("language", pa.string()),
        pa.field("phones", pa.list_(pa.string())),
        pa.field("output", pa.string(), nullable=False),
    ]
)
RESULTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("output", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("evaluations", pa.int64()),
        pa.field("reason", pa.string()),
    ]
)


def row_seed(seed: int, identifier: str) -> int:
    """A sentence's own seed: what is drawn for it does not depend on the batch or the worker it falls into."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{identifier}".encode()).digest()[:7], "little")


def device_of(wanted: Literal["auto", "cpu", "cuda"]) -> str:
    """The device that a job's setting means. UsageError for `cuda` where there is none."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device = 'cuda': this machine has no CUDA device; use cpu or auto")
    return "cuda" if available and wanted != "cpu" else "cpu"


class Speak:
    """Loads a system once, then speaks tables of REQUESTS; a sentence that cannot be spoken gets a reason.

    ValueError for an option that the system does not have: that is a mistake in the job, not in each of its sentences.
    """

    def __init__(self, model: str, device: str, seed: int, options: Mapping[str, Json]) -> None:
        from models.system_files import load_system

        system = load_system(model, device)
        self._sample_rate, self._seed = system.sample_rate, seed
        self._task = system.speak(options)
        self._prompt = lru_cache(maxsize=64)(self._read_prompt)

    def __call__(self, requests: pa.Table) -> pa.Table:
        """REQUESTS -> RESULTS, in order; every good row's WAV is written before this returns."""
        rows = requests.to_pylist()
        results: dict[str, Row] = {row["id"]: {"id": row["id"]} for row in rows}
        ready: list[tuple[Row, object]] = []
        for row in rows:
            try:
                ready.append((row, self._task.prepare(self._request(row))))
            except (AudioError, ValueError, OSError) as error:
                results[row["id"]]["reason"] = " ".join(str(error).split())
        for (row, _), speech in zip(ready, self._speak(ready), strict=True):
            results[row["id"]] |= _write(Path(row["output"]), speech)
        return pa.Table.from_pylist(list(results.values()), schema=RESULTS)

    def _speak(self, ready: Sequence[tuple[Row, object]]) -> list[Speech]:
        generators = [torch.Generator().manual_seed(row_seed(self._seed, row["id"])) for row, _ in ready]
        return self._task.run([prepared for _, prepared in ready], generators) if ready else []

    def _request(self, row: Row) -> SpeakRequest:
        from models.system import SpeakRequest

        prompt = self._prompt(row["prompt"], row["prompt_text"] or "") if row["prompt"] else None
        phones = None if row["phones"] is None else tuple(row["phones"])
        return SpeakRequest(row["text"], row["language"], phones, prompt, row["duration_s"])

    def _read_prompt(self, path: str, text: str) -> Prompt:
        from models.codecs.interface import Wave
        from models.prompt import Prompt

        audio = decode(Path(path), self._sample_rate)
        samples_BT = torch.from_numpy(audio.samples)[None]
        return Prompt(Wave(samples_BT, torch.tensor([samples_BT.shape[1]]), audio.sample_rate), text)


def _write(path: Path, speech: Speech) -> Row:
    """Write the WAV file; returns its part of RESULTS."""
    wave = speech.wave
    samples = wave.wave_BT[0, : int(wave.lengths_B[0])].numpy()
    write_wav(path, samples, wave.sample_rate)
    return {
        "output": str(path),
        "duration_s": samples_to_seconds(len(samples), wave.sample_rate),
        "finish_reason": speech.finish_reason,
        "evaluations": speech.evaluations,
    }
