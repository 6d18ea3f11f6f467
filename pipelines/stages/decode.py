"""Recordings -> mono waves with their transcripts, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from catalog.reasons import Reason
from pipelines.audio import samples_to_seconds
from pipelines.stages.decoder import Decoded, Decoder, DecodeSettings
from pipelines.text import TextError, normalise, read_transcript
from pipelines.utterances import SCHEMA, samples_array


class DecodeStage:
    """Rows of `sources.interface.SCHEMA` -> rows of `utterances.SCHEMA`, one a recording, in the same order."""

    def __init__(self, settings: DecodeSettings, timeout_s: float = 600.0) -> None:
        self._sample_rate = settings.sample_rate
        self._decoder = Decoder(settings, timeout_s)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode every recording of the batch; a bad one becomes a row with a reason."""
        rows = table.to_pylist()
        outcomes = [self._one(row) for row in rows]
        columns: dict[str, Any] = {
            name: [row[name] for row in rows]
            for name in ("recording_id", "source_stat", "speaker", "language", "split", "text_source")
        }
        columns["id"] = columns["recording_id"]
        columns["source"] = [row["uri"] for row in rows]
        columns["start_s"] = [None if decoded.samples is None else row["start_s"] or 0.0
                              for row, (_, decoded) in zip(rows, outcomes, strict=True)]  # fmt: skip
        columns["duration_s"] = [
            None if decoded.samples is None else samples_to_seconds(len(decoded.samples), self._sample_rate)
            for _, decoded in outcomes
        ]
        columns["text"] = [text for text, _ in outcomes]
        columns["source_digest"] = [decoded.digest for _, decoded in outcomes]
        columns["reason"] = [decoded.reason for _, decoded in outcomes]
        columns["detail"] = [decoded.detail or None for _, decoded in outcomes]
        columns["samples"] = samples_array([decoded.samples for _, decoded in outcomes])
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, field.type)
            for field, value in ((field, columns[field.name]) for field in SCHEMA)
        ]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def _one(self, row: Mapping[str, Any]) -> tuple[str | None, Decoded]:
        if row["problem"] is not None:
            return None, Decoded(None, None, Reason(row["problem"]), "rejected by its source")
        decoded = self._decoder.decode(row["uri"])
        if decoded.reason is not None:
            return None, decoded
        try:
            return _text(row), decoded
        except TextError as error:
            return None, Decoded(decoded.digest, None, error.reason, str(error))


def _text(row: Mapping[str, Any]) -> str | None:
    given = row["text"]
    if given is None and row["text_uri"] is not None:
        given = read_transcript(row["text_uri"])
    return None if given is None else normalise(given)
