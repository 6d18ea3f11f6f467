"""A system behind a table: what the MLflow pyfunc calls. One row in, one WAV file out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from models.checkpoints import Record
from models.codecs.interface import Wave
from models.prompt import Prompt, prompt_samples
from models.system import ConvertRequest, SpeakRequest, Speech, System, Task
from models.system_files import load_system
from models.windows import convert_in_windows, longest_source_s
from trainers.wav import wav_bytes

if TYPE_CHECKING:
    import pandas as pd


def load(directory: str | Path) -> Served:
    """Load a system directory, on the GPU if there is one."""
    return Served(load_system(directory, "cuda" if torch.cuda.is_available() else "cpu"))


class Served:
    """Speaks rows with `text`, converts rows with `source`.

    Columns: `text` (and optionally `prompt`, the bytes of an audio file, `prompt_text`, `language`), or `source` and
    `reference` (bytes of audio files). The parameter `seed` makes the result repeatable.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def predict(self, rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
        """A table with `audio` (bytes of 16-bit mono WAV files) and `sample_rate`; ValueError names a wrong row."""
        import pandas as pd

        made = self._convert(rows, seed) if "source" in rows else self._speak(rows, seed)
        waves = [speech.wave for speech in made]
        audio = [wav_bytes(wave.wave_BT[0, : int(wave.lengths_B[0])], wave.sample_rate) for wave in waves]
        return pd.DataFrame({"audio": audio, "sample_rate": [wave.sample_rate for wave in waves]})

    def _speak(self, rows: pd.DataFrame, seed: int) -> list[Speech]:
        task = self.system.speak({})
        requests = [
            SpeakRequest(_text(index, row), _string(row.get("language")), prompt=_prompt(row))
            for index, row in enumerate(rows.to_dict("records"))
        ]
        return task.run([task.prepare(one) for one in requests], _generators(seed, len(rows)))

    def _convert(self, rows: pd.DataFrame, seed: int) -> list[Speech]:
        task = self.system.convert({})
        requests = [
            ConvertRequest(_wave(index, row, "source"), Prompt(_wave(index, row, "reference")))
            for index, row in enumerate(rows.to_dict("records"))
        ]
        longest_s = longest_source_s(task.options)
        (generator, *_) = _generators(seed, 1)
        short = [one for one in requests if _seconds(one.source) <= longest_s]
        made = iter(task.run([task.prepare(one) for one in short], [generator] * len(short)) if short else [])
        return [
            next(made) if _seconds(one.source) <= longest_s else self._long(task, one, generator)
            for one in requests
        ]

    def _long(
        self,
        task: Task[ConvertRequest, object, Speech],
        request: ConvertRequest,
        generator: torch.Generator,
    ) -> Speech:
        """A recording that is too long to be converted at once."""
        rate = self.system.sample_rate
        source_T = prompt_samples(Prompt(request.source), rate)
        parts = list(convert_in_windows(task, source_T, rate, request.reference, generator))
        wave_BT = torch.cat([part.wave_T for part in parts])[None]
        wave = Wave(wave_BT, torch.tensor([wave_BT.shape[1]]), rate)
        return Speech(wave, "length", sum(part.evaluations for part in parts))


def _seconds(wave: Wave) -> float:
    return int(wave.lengths_B[0]) / wave.sample_rate


def _generators(seed: int, count: int) -> list[torch.Generator]:
    """One stream that the rows draw their seeds from, one after another."""
    return [torch.Generator().manual_seed(seed)] * count


def _text(index: int, row: Record) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"row {index} has no text: {text!r}")
    return text


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _prompt(row: Record) -> Prompt | None:
    audio = row.get("prompt")
    return Prompt(_decoded(audio), _string(row.get("prompt_text"))) if isinstance(audio, bytes) else None


def _wave(index: int, row: Record, column: str) -> Wave:
    audio = row.get(column)
    if not isinstance(audio, bytes):
        raise ValueError(f"row {index} has no {column}: it must be the bytes of an audio file")
    return _decoded(audio)


def _decoded(audio: bytes) -> Wave:
    import soundfile

    samples, sample_rate = soundfile.read(io.BytesIO(audio), dtype="float32", always_2d=True)
    wave_BT = torch.from_numpy(samples.mean(axis=1))[None]
    return Wave(wave_BT, torch.tensor([wave_BT.shape[1]]), sample_rate)
