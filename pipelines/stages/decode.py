"""Recordings -> mono waves with their transcripts, or the reason why not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from catalog.reasons import Reason
from pipelines.audio import Samples
from pipelines.sources.interface import SCHEMA as SOURCE_SCHEMA
from pipelines.stages.decoder import Decoded, Decoder, DecodeSettings
from pipelines.text import TextError, normalise, read_transcript

SCHEMA = pa.schema(
    [
        *(SOURCE_SCHEMA.field(name) for name in ("recording_id", "uri", "speaker", "language", "split")),
        ("text", pa.string()),
        ("text_source", pa.string()),
        ("source_digest", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("samples", pa.large_list(pa.float32())),
    ]
)
"""One row an utterance; `samples` is null where `reason` says why."""


class DecodeStage:
    """Rows of `sources.interface.SCHEMA` -> rows of `SCHEMA`, in the same order."""

    def __init__(
        self, settings: DecodeSettings, missing_text: Literal["reject", "allow"], timeout_s: float = 600.0
    ) -> None:
        self._decoder = Decoder(settings, timeout_s)
        self._missing_text = missing_text

    def __call__(self, table: pa.Table) -> pa.Table:
        """Decode every recording of the batch; a bad one becomes a row with a reason."""
        rows = table.to_pylist()
        outcomes = [self._one(row) for row in rows]
        columns: dict[str, Any] = {
            name: [row[name] for row in rows]
            for name in ("recording_id", "uri", "speaker", "language", "split")
        }
        columns["text"] = [text for text, _ in outcomes]
        columns["text_source"] = [row["text_source"] for row in rows]
        columns["source_digest"] = [decoded.digest for _, decoded in outcomes]
        columns["reason"] = [decoded.reason for _, decoded in outcomes]
        columns["detail"] = [decoded.detail for _, decoded in outcomes]
        columns["samples"] = samples_array([decoded.samples for _, decoded in outcomes])
        arrays = [
            value if isinstance(value, pa.Array) else pa.array(value, field.type)
            for field, value in ((field, columns[field.name]) for field in SCHEMA)
        ]
        return pa.Table.from_arrays(arrays, schema=SCHEMA)

    def _one(self, row: Mapping[str, Any]) -> tuple[str, Decoded]:
        if row["problem"] is not None:
            return "", Decoded(None, None, Reason(row["problem"]), "rejected by its source")
        decoded = self._decoder.decode(row["uri"])
        if decoded.reason is not None:
            return "", decoded
        try:
            return self._text(row), decoded
        except TextError as error:
            return "", Decoded(decoded.digest, None, error.reason, str(error))

    def _text(self, row: Mapping[str, Any]) -> str:
        given = row["text"]
        if given is None and row["text_uri"] is not None:
            given = read_transcript(row["text_uri"])
        text = normalise(given or "")
        if not text and self._missing_text == "reject":
            reason = Reason.MISSING_TEXT if given is None else Reason.EMPTY_TEXT
            raise TextError(reason, "no transcript" if given is None else "the transcript is empty")
        return text


def samples_array(waves: list[Samples | None]) -> pa.Array:
    """Waves of different lengths as large_list<float32>, null where there is none."""
    lengths = [0 if wave is None else len(wave) for wave in waves]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    present = [wave for wave in waves if wave is not None]
    values = np.concatenate(present) if present else np.zeros(0, np.float32)
    mask = pa.array([wave is None for wave in waves], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.float32()), mask=mask)
