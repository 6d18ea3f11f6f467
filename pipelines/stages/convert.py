"""Recordings in other voices as WAV files: the worker of `convert`. One table in, one result row a pair out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from models.prompt import Prompt
from models.system import ConvertRequest
from models.windows import convert_in_windows, longest_source_s
from pipelines.audio.containers import AudioError, Samples
from pipelines.audio.decode import Audio, Limits, Sink, decode
from pipelines.audio.decoder_process import SharedSink
from pipelines.audio.lengths import samples_to_seconds
from pipelines.audio.wav import write_wav_parts
from pipelines.rows import Row
from pipelines.stages.system import SystemStage, wave_of, written

if TYPE_CHECKING:
    from models.checkpoints import Json

PAIRS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("output", pa.string(), nullable=False),
    ]
)
_LONGEST_REFERENCE_S = 60.0
"""For systems that do not say it."""


class Convert(SystemStage[ConvertRequest]):
    """Loads a system once, then converts tables of PAIRS; a pair that cannot be converted gets a reason.

    Sources are decoded into files without a name. One that is too long to be converted at once is converted in windows,
    which are written as they come, so that memory is that of a window. ValueError for an option that the system does
    not have.
    """

    def __init__(
        self, model: str, device: str, seed: int, options: Mapping[str, Json], longest_s: float
    ) -> None:
        """Sources longer than `longest_s` are refused."""
        from models.system_files import load_system

        system = load_system(model, device)
        super().__init__(system, system.convert(options), seed)
        self._window_s, self._longest_s = longest_source_s(self.task.options), longest_s
        self._reference = lru_cache(maxsize=64)(self._read_reference)

    def request(self, row: Row) -> ConvertRequest:
        """See SystemStage."""
        return ConvertRequest(wave_of(self._read_source(row["source"])), self._reference(row["reference"]))

    def at_once(self, row: Row, request: ConvertRequest) -> Row | None:
        """Convert a long source in windows."""
        wave_T, sample_rate = request.source.wave_BT[0], request.source.sample_rate
        if samples_to_seconds(len(wave_T), sample_rate) <= self._window_s:
            return None
        evaluations = 0

        def parts() -> Iterator[Samples]:
            nonlocal evaluations
            generator = self.generator(row)
            for part in convert_in_windows(self.task, wave_T, sample_rate, request.reference, generator):
                evaluations += part.evaluations
                yield part.wave_T.numpy()

        path = Path(row["output"])
        samples = write_wav_parts(path, parts(), sample_rate)
        return written(path, samples, sample_rate, "length", evaluations)

    def _read_source(self, path: str) -> Audio:
        with tempfile.TemporaryFile(buffering=0) as file:
            return self._read("source", path, self._longest_s, SharedSink(file, 0))

    def _read_reference(self, path: str) -> Prompt:
        longest_s = self.task.options.get("max_prompt_s", _LONGEST_REFERENCE_S)
        assert isinstance(longest_s, float | int)
        return Prompt(wave_of(self._read("reference", path, longest_s)))

    def _read(self, what: str, path: str, longest_s: float, sink: Sink | None = None) -> Audio:
        try:
            limits = Limits(max_duration_s=longest_s)
            return decode(Path(path), self.system.sample_rate, limits, sink=sink)
        except AudioError as error:
            raise AudioError(error.reason, f"{what} {path}: {error}") from error
