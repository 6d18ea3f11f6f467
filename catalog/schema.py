"""The columns of a dataset, its splits, and the description of one of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from catalog.codes import STORED as STORED_CODES

SPLITS = ("train", "validation", "rejected", "derived")
"""`derived` rows are made of utterances of `train`: noisy copies, and rows for speech tasks. They are in no other
split, so that nothing meets them by accident; their ids are `<id of the utterance>#<name>`."""
RECORDED = ("train", "validation")
"""The splits of utterances as they were recorded."""

WORD = pa.struct(
    [("word", pa.string()), ("start_s", pa.float32()), ("end_s", pa.float32()), ("score", pa.float32())]
)

TOKEN_COLUMNS = ("semantic_codes", "latents")
"""Columns whose makers the table's property `speechmill.columns` names. `latents` are float16, little-endian, (T, D):
Delta Lake has no half floats."""

# The partition column `split` is part of the path, so it is in the table and in no file.
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("recording_id", pa.string()),
        ("text", pa.string()),
        ("codes", STORED_CODES),
        ("target_length", pa.int32()),
        ("duration_s", pa.float64()),
        ("start_s", pa.float64()),
        ("speaker", pa.string()),
        ("language", pa.string()),
        ("source", pa.string()),
        ("text_source", pa.string()),
        ("text_confidence", pa.float32()),
        ("avg_logprob", pa.float32()),
        ("compression_ratio", pa.float32()),
        ("language_probability", pa.float32()),
        ("chars_per_s", pa.float32()),
        ("words", pa.list_(WORD)),
        ("normalized_text", pa.string()),
        ("dnsmos", pa.float32()),
        ("snr_db", pa.float32()),
        ("clipping", pa.float32()),
        ("bandwidth_hz", pa.float32()),
        ("silence_share", pa.float32()),
        ("speaker_similarity", pa.float32()),
        ("semantic_codes", pa.list_(pa.int32())),
        ("latents", pa.binary()),
        ("phonemes", pa.list_(pa.string())),
        ("task", pa.string()),
        ("prompt_codes", STORED_CODES),
        ("source_digest", pa.string()),
        ("source_stat", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a dataset. `path` is relative to the table, `seconds` the sum of its `duration_s`.

    `recording_keys` say which recordings it holds (`catalog.recordings.pack_keys`); "" in logs of older datasets.
    """

    path: str
    split: str
    rows: int
    size_bytes: int
    sha256: str
    recordings: int
    seconds: float
    run_id: str
    codec_digest: str
    recording_keys: str = ""
    columns: str = ""
    """JSON of its token columns: digest of the maker's identity by column; "" where there is none."""

    @property
    def column_digests(self) -> Mapping[str, str]:
        """`columns`, read."""
        digests: dict[str, str] = json.loads(self.columns or "{}")
        return digests
