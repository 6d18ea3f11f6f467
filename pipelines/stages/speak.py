"""Sentences to WAV files: the worker of `synthesize`. One table in, one result row per sentence out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from models.system import SpeakRequest
from pipelines.audio.decode import decode
from pipelines.rows import Row
from pipelines.stages.system import SystemStage, wave_of

if TYPE_CHECKING:
    from models.checkpoints import Json
    from models.prompt import Prompt

REQUESTS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("prompt_text", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("language", pa.string()),
        pa.field("phones", pa.list_(pa.string())),
        pa.field("source", pa.string()),
        pa.field("edit_s", pa.list_(pa.float64())),
        pa.field("output", pa.string(), nullable=False),
    ]
)


class Speak(SystemStage[SpeakRequest]):
    """Loads a system once, then speaks tables of REQUESTS; a sentence that cannot be spoken gets a reason.

    ValueError for an option that the system does not have: that is a mistake in the job, not in each of its sentences.
    """

    def __init__(self, model: str, device: str, seed: int, options: Mapping[str, Json]) -> None:
        from models.system_files import load_system

        system = load_system(model, device)
        super().__init__(system, system.speak(options), seed)
        self._prompt = lru_cache(maxsize=64)(self._read_prompt)

    def request(self, row: Row) -> SpeakRequest:
        """See SystemStage."""
        prompt = self._prompt(row["prompt"], row["prompt_text"] or "") if row["prompt"] else None
        phones = None if row["phones"] is None else tuple(row["phones"])
        source = wave_of(decode(Path(row["source"]), self.system.sample_rate)) if row["source"] else None
        edit_s = None
        if row["edit_s"] is not None:
            if len(row["edit_s"]) != 2:
                raise ValueError(f"edit_s is {row['edit_s']}; it must be two times in seconds")
            edit_s = (row["edit_s"][0], row["edit_s"][1])
        return SpeakRequest(row["text"], row["language"], phones, prompt, row["duration_s"], source, edit_s)

    def _read_prompt(self, path: str, text: str) -> Prompt:
        from models.prompt import Prompt

        return Prompt(wave_of(decode(Path(path), self.system.sample_rate)), text)
