"""Recordings -> mono waves with their transcripts, or the reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from catalog.outward import without_secrets
from catalog.reasons import Reason
from models.text.normalize import normalize_transcript
from pipelines.audio.containers import Samples
from pipelines.audio.isolated_decoder import Decoded, Decoder, DecodeSettings, Wanted
from pipelines.audio.lengths import samples_to_seconds
from pipelines.rows import SCHEMA, Row
from pipelines.sources.reading import set_reading
from pipelines.sources.transcripts import TextError, read_transcript


class DecodeStage:
    """Rows of `sources.interface.SCHEMA` -> rows of `pipelines.rows.SCHEMA`, one per recording, in the same order."""

    def __init__(
        self, settings: DecodeSettings, timeout_s: float = 600.0, memory_limit_bytes: int | None = 3 << 30
    ) -> None:
        """The limits are those of `Decoder`."""
        self._sample_rate = settings.sample_rate
        set_reading(settings.reading)
        self._decoder = Decoder(settings, timeout_s, memory_limit_bytes)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode every recording of the batch; a bad one becomes a row with a reason."""
        rows = table.to_pylist()
        texts, outcomes, waves = self._decoded(rows)
        columns: dict[str, object] = {
            name: [row[name] for row in rows]
            for name in ("recording_id", "speaker", "language", "split", "text_source")
        }
        columns["id"] = columns["recording_id"]
        columns["source"] = [without_secrets(row["uri"]) for row in rows]
        columns["source_stat"] = [
            row["source_stat"] or one.stat for row, one in zip(rows, outcomes, strict=True)
        ]
        columns["start_s"] = [
            None if one.reason else row["start_s"] or 0.0 for row, one in zip(rows, outcomes, strict=True)
        ]
        columns["duration_s"] = [
            None if one.samples is None else samples_to_seconds(len(one.samples), self._sample_rate)
            for one in outcomes
        ]
        columns["text"] = texts
        columns["source_digest"] = [one.digest for one in outcomes]
        columns["reason"] = [one.reason for one in outcomes]
        columns["detail"] = [one.detail or None for one in outcomes]
        columns["samples"] = _samples_array(outcomes, waves)
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, field.type)
            for field, value in ((field, columns[field.name]) for field in SCHEMA)
        ]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def _decoded(self, rows: Sequence[Row]) -> tuple[list[str | None], list[Decoded], Samples]:
        """Text and outcome of every row, and the samples of all outcomes one after the other."""
        wanted = [
            Wanted(row["uri"], row["start_s"], row["stop_s"], row["source_stat"])
            for row in rows
            if row["problem"] is None
        ]
        found, waves = self._decoder.decode_all(wanted)
        remaining = iter(found)
        texts: list[str | None] = []
        outcomes = []
        for row in rows:
            text = None
            if row["problem"] is not None:
                detail = row["detail"] or "rejected by its source"
                outcome = Decoded(None, None, Reason(row["problem"]), detail)
            else:
                outcome = next(remaining)
                try:
                    text = None if outcome.reason else _text(row)
                except TextError as error:
                    outcome = replace(outcome, samples=None, reason=error.reason, detail=str(error))
            texts.append(text)
            outcomes.append(outcome)
        return texts, outcomes, waves


def _samples_array(outcomes: Sequence[Decoded], waves: Samples) -> pa.Array:
    """large_list<float32> over the samples as they lie, null where there is a reason."""
    ends = [0]
    for one in outcomes:
        ends.append(ends[-1] + one.length)
    mask = pa.array([one.samples is None for one in outcomes], pa.bool_())
    return pa.LargeListArray.from_arrays(
        pa.array(np.array(ends, np.int64)), pa.array(waves, pa.float32()), mask=mask
    )


def _text(row: Row) -> str | None:
    given = row["text"]
    if given is None and row["text_uri"] is not None:
        given = read_transcript(row["text_uri"])
    return None if given is None else normalize_transcript(given)
