"""Encoded utterances -> one durable Parquet file per split, described by one small row."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from catalog.identity import Columns
from catalog.reasons import Reason
from catalog.schema import RECORDED, SCHEMA, Shard
from catalog.shards import write_shard
from models.identity import TokenIdentity

WRITTEN = pa.schema([("written", pa.string())])
_EXAMPLES = 20
_TROUBLES = {Reason.UNAVAILABLE.value: "u", Reason.DECODER_CRASHED.value: "c"}


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
    troubles: str = ""
    """A character a recording, in order: `.` fine, `u` unavailable (and not in the files), `c` its decoder crashed."""
    last_trouble: str = ""
    """`id: detail` of the last recording that was not fine."""

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
        self,
        dataset_uri: str,
        run_id: str,
        codec: TokenIdentity,
        validation: float,
        seed: int,
        columns: Columns | None = None,
    ) -> None:
        """`codec` and `columns` are the makers of codes and of token columns."""
        self._dataset_uri, self._run_id, self._codec = dataset_uri, run_id, codec
        self._columns = columns or {}
        self._validation, self._seed = validation, seed

    def __call__(self, table: pa.Table) -> pa.Table:
        """Write the batch but for recordings that were unavailable. Raises JobError when the disk refuses."""
        table, troubles, last = _without_unavailable(table)
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
        recorded = pc.is_in(pa.array(splits, pa.string()), value_set=pa.array(RECORDED))
        accepted = table["duration_s"].filter(recorded)
        return Written(
            write_shard(
                stored.append_column("split", pa.array(splits, pa.string())),
                self._dataset_uri,
                self._run_id,
                self._codec,
                self._columns,
            ),
            recordings=pc.count_distinct(table["recording_id"]).as_py(),
            seconds=float(pc.sum(accepted).as_py() or 0.0),
            rejected=dict(Counter(reason for reason in reasons if reason)),
            examples=examples[:_EXAMPLES],
            troubles=troubles,
            last_trouble=last,
        ).to_table()


def _without_unavailable(table: pa.Table) -> tuple[pa.Table, str, str]:
    """The rows of recordings that could be read, and `Written.troubles` and `last_trouble`.

    A recording with one unavailable row, as its transcript, goes as a whole: it is committed whole or not at all.
    """
    recordings, reasons = table["recording_id"].to_pylist(), table["reason"].to_pylist()
    kinds = dict.fromkeys(recordings, ".")
    last = ""
    for row, (recording, reason) in enumerate(zip(recordings, reasons, strict=True)):
        if reason in _TROUBLES and kinds[recording] != "u":
            kinds[recording] = _TROUBLES[reason]
            last = f"{recording}: {table['detail'][row].as_py()}"
    keep = [kinds[recording] != "u" for recording in recordings]
    kept = table if all(keep) else table.filter(pa.array(keep, pa.bool_()))
    return kept, "".join(kinds.values()), last


def split_of(recording_id: str, validation: float, seed: int) -> str:
    """`validation` for a fixed, pseudo-random share of the ids; the same on every machine and in every run."""
    drawn = hashlib.blake2b(f"{seed}:{recording_id}".encode(), digest_size=8).digest()
    return "validation" if int.from_bytes(drawn, "big") < validation * 2**64 else "train"
