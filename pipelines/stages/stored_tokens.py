"""Token columns of files that are committed already: their recordings are decoded again, and cut as they were."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from catalog.schema import SCHEMA, Shard
from catalog.shards import read_columns
from catalog.storage import open_storage
from models.identity import TokenIdentity
from models.tasks import SPEAK
from pipelines.audio.containers import Samples
from pipelines.audio.isolated_decoder import Decoder, DecodeSettings
from pipelines.audio.lengths import seconds_to_samples
from pipelines.rows import Row
from pipelines.stages.augment import noisy

_READ = ("id", "recording_id", "source", "source_digest", "start_s", "duration_s", "task")
_COPY = re.compile(r"#aug\d+$")


class WaveValues(Protocol):
    """Values of token columns for single waves."""

    @property
    def columns(self) -> Mapping[str, TokenIdentity]:
        """Makers of the columns."""
        ...

    def __call__(self, wave: Samples, sample_rate: int) -> Mapping[str, object]:
        """The value of each column for a wave (T,), None where there is none."""
        ...


class StoredTokensStage:
    """One committed file (`shard`, JSON) -> a row per utterance with its values, in the file's order.

    `problem` says why a recording cannot be read as it was (gone, changed since). One recording is held at a time. A
    recording that is a part of a larger file, and was cut itself, is decoded with what lies around it. Rows for speech
    tasks have no values.
    """

    def __init__(
        self,
        dataset_uri: str,
        make: Callable[..., WaveValues],
        arguments: Mapping[str, object],
        decoding: DecodeSettings,
        noise_std: float = 0.0,
        timeout_s: float = 600.0,
        memory_limit_bytes: int | None = 3 << 30,
    ) -> None:
        """`make(**arguments)` makes the values: `SemanticTokens` or `Vectors`.

        `decoding` and `noise_std` (of augmented copies) are those that the rows were prepared with.
        """
        self._storage, self._noise_std = open_storage(dataset_uri), noise_std
        self._values_of = make(**arguments)
        self._sample_rate = decoding.sample_rate
        self._decoder = Decoder(decoding, timeout_s, memory_limit_bytes)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Read the file's recordings and code its rows."""
        shard = Shard(**json.loads(table["shard"][0].as_py()))
        rows = read_columns(self._storage, [shard], _READ).to_pylist()
        found: list[Mapping[str, object]] = [{} for _ in rows]
        for numbers in _by_recording(rows):
            for number, values in zip(numbers, self._recording([rows[at] for at in numbers]), strict=True):
                found[number] = values
        columns = {"problem": pa.array([one.get("problem") for one in found], pa.string())}
        for name in self._values_of.columns:
            columns[name] = pa.array([one.get(name) for one in found], SCHEMA.field(name).type)
        return pa.table(columns)

    def _recording(self, rows: Sequence[Row]) -> list[Mapping[str, object]]:
        """Values of the rows of one recording."""
        whole = self._decoded(rows[0], None, None)
        return [self._values(row, whole) for row in rows]

    def _values(self, row: Row, whole: Samples | str) -> Mapping[str, object]:
        if row["task"] not in (None, SPEAK):
            return {}
        wave = self._wave(row, whole)
        return {"problem": wave} if isinstance(wave, str) else self._values_of(wave, self._sample_rate)

    def _wave(self, row: Row, whole: Samples | str) -> Samples | str:
        """The samples that the row was coded from, or the problem."""
        start_s, stop_s = row["start_s"], row["start_s"] + row["duration_s"]
        original = _COPY.sub("", row["id"]) if self._noise_std else row["id"]
        first, stop = (seconds_to_samples(at, self._sample_rate) for at in (start_s, stop_s))
        wave = whole
        if original != row["recording_id"]:
            wave = whole if isinstance(whole, str) else whole[first:stop]
        elif isinstance(whole, str) or first or len(whole) != stop:  # a part of a file, uncut
            wave = self._decoded(row, start_s, stop_s)
        if isinstance(wave, str):
            return wave
        if abs(len(wave) - (stop - first)) > 1:
            seconds = len(wave) / self._sample_rate
            return f"{row['id']}: {seconds:g} s can be read, {row['duration_s']:g} s were committed"
        return wave if original == row["id"] else noisy(wave, self._noise_std, row["id"])

    def _decoded(self, row: Row, start_s: float | None, stop_s: float | None) -> Samples | str:
        found = self._decoder.decode(row["source"], start_s, stop_s)
        if found.samples is None:
            return f"{row['recording_id']}: {found.reason}: {found.detail}"
        if found.digest != row["source_digest"]:
            return f"{row['recording_id']}: has changed since it was committed"
        return found.samples


def _by_recording(rows: Sequence[Row]) -> list[list[int]]:
    numbers: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        numbers.setdefault(row["recording_id"], []).append(number)
    return list(numbers.values())
