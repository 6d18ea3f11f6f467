"""Recordings -> files of vectors: `.npy`, float32 (T, D), each whole or not there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from catalog.command import JobError
from catalog.files import write_bytes
from models.semantic.source import EmbedderSource
from pipelines.audio.containers import Samples
from pipelines.audio.decode import Limits
from pipelines.audio.isolated_decoder import Decoder, DecodeSettings, Wanted
from pipelines.audio.lengths import samples_to_seconds
from pipelines.rows import Row
from pipelines.sources import uris
from pipelines.stages.vectors import Matrix, Vectors

RESULTS = pa.schema([("uri", pa.string()), ("duration_s", pa.float64()), ("problem", pa.string())])


class EmbedStage:
    """Rows of `uri` and `target` (a file's URI) -> RESULTS in the same order; what cannot be embedded has a problem."""

    def __init__(
        self,
        source: EmbedderSource,
        device: str = "cpu",
        threads: int = 1,
        batch_s: float = 60.0,
        max_duration_s: float = 4 * 3600.0,
        timeout_s: float = 600.0,
        memory_limit_bytes: int | None = 3 << 30,
    ) -> None:
        """`batch_s` bounds the padded seconds in one call of the network."""
        self._vectors, self._batch_s = Vectors(source, device, threads), batch_s
        self._sample_rate = self._vectors.identity.sample_rate
        decoding = DecodeSettings(self._sample_rate, Limits(0.0, max_duration_s))
        self._decoder = Decoder(decoding, timeout_s, memory_limit_bytes)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode, embed and write; JobError if a file cannot be written."""
        uri, targets = table["uri"].to_pylist(), table["target"].to_pylist()
        decoded, _ = self._decoder.decode_all([Wanted(one) for one in uri])
        found: list[Row] = [{"uri": one} for one in uri]
        waves: dict[int, Samples] = {}
        for number, one in enumerate(decoded):
            if one.samples is None:
                found[number]["problem"] = f"{one.reason}: {one.detail}"
            elif problem := self._vectors.refusal(len(one.samples)):
                found[number]["problem"] = problem
            else:
                waves[number] = one.samples
                found[number]["duration_s"] = samples_to_seconds(len(one.samples), self._sample_rate)
        for number, vectors_TD in self._embedded(waves):
            if len(vectors_TD):
                _write(targets[number], vectors_TD)
            else:
                seconds = found[number].pop("duration_s")
                found[number]["problem"] = f"{seconds:g} s is too short for a vector"
        return pa.Table.from_pylist(found, schema=RESULTS)

    def _embedded(self, waves: dict[int, Samples]) -> Iterator[tuple[int, Matrix]]:
        numbers = list(waves)
        for place, vectors_TD in self._vectors.of_all([waves[number] for number in numbers], self._batch_s):
            yield numbers[place], vectors_TD


def _write(target: str, vectors_TD: Matrix) -> None:
    path = uris.local_path(target)
    assert path is not None, target
    sink = io.BytesIO()
    np.save(sink, np.ascontiguousarray(vectors_TD, dtype=np.float32))
    try:
        write_bytes(Path(path), sink.getbuffer())
    except OSError as error:
        raise JobError(f"{path}: cannot be written: {error.strerror or error}") from error
