"""Recordings through a system's codec and back, as WAV files: what the codec leaves of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from pipelines.audio.decode import decode
from pipelines.rows import Row
from pipelines.stages.system import SystemStage, wave_of

if TYPE_CHECKING:
    from models.checkpoints import Json
    from models.codecs.interface import Codec, Wave
    from models.system import Speech, Task

RECORDINGS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("output", pa.string(), nullable=False),
    ]
)


class CodecTask:
    """A codec as a task of a system: a recording in, the same recording encoded and decoded out, row by row."""

    options: Mapping[str, Json] = {}

    def __init__(self, codec: Codec, device: str) -> None:
        self._codec, self._device = codec, device

    def prepare(self, request: Wave) -> Wave:
        """Nothing is to be checked."""
        return request

    def run(self, prepared: Sequence[Wave], generators: Sequence[torch.Generator]) -> list[Speech]:  # noqa: ARG002
        """As long as the recordings: a partial last frame decodes to a whole one."""
        return [self._round_trip(wave) for wave in prepared]

    @torch.inference_mode()
    def _round_trip(self, wave: Wave) -> Speech:
        from models.codecs.interface import Wave
        from models.system import Speech

        codes = self._codec.encode(wave.wave_BT.to(self._device), wave.lengths_B.to(self._device))
        decoded_BT = self._codec.decode(codes).wave_BT[:, : int(wave.lengths_B[0])].cpu()
        lengths_B = torch.tensor([decoded_BT.shape[1]])
        return Speech(Wave(decoded_BT, lengths_B, self._codec.sample_rate), "length", 0)


class RoundTrip(SystemStage["Wave"]):
    """Loads a system once, then answers tables of RECORDINGS."""

    def __init__(self, model: str, device: str, seed: int, options: Mapping[str, Json]) -> None:  # noqa: ARG002
        """A codec has no `options`."""
        from models.system_files import load_system

        system = load_system(model, device)
        task: Task[Wave, Any, Speech] = CodecTask(system.codec, device)
        super().__init__(system, task, seed)

    def request(self, row: Row) -> Wave:
        """See SystemStage."""
        return wave_of(decode(Path(row["reference"]), self.system.sample_rate))
