"""Encoded utterances -> one durable Parquet file a split, described by one small row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from catalog.schema import SCHEMA, Shard
from catalog.shards import write_shard
from models.identity import TokenIdentity

WRITTEN = pa.schema([("written", pa.string())])
_EXAMPLES = 20


@dataclass(frozen=True)
class Written:
    """Files and counts of one batch of recordings."""

    shards: list[Shard]
    recordings: int
    seconds: float
    """Accepted audio."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Rows by reason."""
    examples: list[str] = field(default_factory=list)
    """`id: reason: detail` of some rejected ones, for the log."""

    def to_table(self) -> pa.Table:
        """One row that travels to the driver."""
        return pa.table({"written": [json.dumps(dataclasses.asdict(self))]}, schema=WRITTEN)

    @staticmethod
    def from_table(table: pa.Table) -> Written:
        """Read what `to_table` made."""
        plain = json.loads(table["written"][0].as_py())
        return Written(**{**plain, "shards": [Shard(**shard) for shard in plain["shards"]]})


class WriteStage:
    """Encoded rows -> one row of `WRITTEN`; the files are durable when it returns."""

    def __init__(
        self, dataset_uri: str, run_id: str, codec: TokenIdentity, validation: float, seed: int
    ) -> None:
        self._dataset_uri, self._run_id, self._codec = dataset_uri, run_id, codec
        self._validation, self._seed = validation, seed

    def __call__(self, table: pa.Table) -> pa.Table:
        """Write the batch. Raises JobError when the disk refuses."""
        reasons = table["reason"].to_pylist()
        recordings = table["recording_id"].to_pylist()
        given = table["split"].to_pylist()
        splits = [
            "rejected" if reason else split or split_of(recording, self._validation, self._seed)
            for reason, recording, split in zip(reasons, recordings, given, strict=True)
        ]
        stored = table.select([name for name in SCHEMA.names if name in table.column_names])
        details = zip(table["id"].to_pylist(), reasons, table["detail"].to_pylist(), strict=True)
        examples = [f"{row}: {reason}: {detail}" for row, reason, detail in details if reason]
        accepted = table["duration_s"].filter(pc.is_null(table["reason"]))
        return Written(
            write_shard(
                stored.append_column("split", pa.array(splits, pa.string())),
                self._dataset_uri,
                self._run_id,
                self._codec,
            ),
            recordings=pc.count_distinct(table["recording_id"]).as_py(),
            seconds=float(pc.sum(accepted).as_py() or 0.0),
            rejected=dict(Counter(reason for reason in reasons if reason)),
            examples=examples[:_EXAMPLES],
        ).to_table()


def split_of(recording_id: str, validation: float, seed: int) -> str:
    """`validation` for a fixed, pseudo-random share of the ids; the same on every machine and in every run."""
    drawn = hashlib.blake2b(f"{seed}:{recording_id}".encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(drawn, "big") < validation * 2**64 else "train"
