"""Committed recordings, in as little memory as tells new recordings from done and changed ones.

56 bytes per recording, so that a plan of millions fits into the task that lists the source.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from catalog.recordings import Keys, hashed

_DIGITS = 32
"""Hex digits of the sha256 that are kept: enough to see a change, and to say from what."""

_DIGEST = f"S{_DIGITS}"


@dataclass(frozen=True)
class Known:
    """Committed recordings, sorted by key."""

    keys: Keys
    checks: Keys
    """A second, independent key: both agree for two of a million ids with a probability of 1e-27."""
    digests: npt.NDArray[np.bytes_]
    """The beginning of the sha256 (hex); empty where the recording was never read."""
    stats: Keys
    """Of `source_stat`; 0 where there is none."""
    texts: Keys | None = None
    """Of the transcript that came with the recording; 0 where there is none, or it was cut."""

    def with_texts(self, rows: pa.Table) -> Known:
        """The same with the transcripts of `rows` (`id, recording_id, text, text_source`)."""
        texts = np.zeros(len(self.keys), dtype=np.uint64)
        for batch in rows.to_batches(max_chunksize=1 << 14):
            ids = batch["recording_id"].to_pylist()
            columns = [batch[name].to_pylist() for name in ("id", "text", "text_source")]
            places = self.find(ids, hashed(ids))
            for place, own, (row, text, source) in zip(places, ids, zip(*columns, strict=True), strict=True):
                if place >= 0 and row == own and text and source in ("given", "sidecar"):
                    texts[place] = check_of(text)
        return replace(self, texts=texts)

    def same_text(self, place: int, text: str) -> bool:
        """False if the recording was committed with another transcript."""
        return self.texts is None or self.texts[place] == 0 or bool(self.texts[place] == check_of(text))

    @staticmethod
    def of(committed: pa.Table) -> Known:
        """From rows of `recording_id, source_digest` and perhaps `source_stat`."""
        keys, checks, stats = (np.zeros(committed.num_rows, dtype=np.uint64) for _ in range(3))
        digests = np.zeros(committed.num_rows, dtype=_DIGEST)
        at = 0
        for batch in committed.to_batches(max_chunksize=1 << 14):
            here = slice(at, at + batch.num_rows)
            keys[here], checks[here], digests[here], stats[here] = _part(batch)
            at += batch.num_rows
        order = np.argsort(keys, kind="stable")
        return Known(keys[order], checks[order], digests[order], stats[order])

    def find(self, ids: Sequence[str], keys: Keys) -> npt.NDArray[np.int64]:
        """The place of each id (with its key); -1 for ids that are not held. Two ids may share a key."""
        at = np.searchsorted(self.keys, keys)
        held = np.zeros(len(keys), dtype=np.bool_)
        if len(self.keys):
            held = self.keys[np.minimum(at, len(self.keys) - 1)] == keys
        found = np.full(len(keys), -1, dtype=np.int64)
        for index in np.flatnonzero(held).tolist():
            check = check_of(ids[index])
            place = int(at[index])
            while place < len(self.keys) and self.keys[place] == keys[index]:
                if self.checks[place] == check:
                    found[index] = place
                    break
                place += 1
        return found

    def was_read(self, place: int) -> bool:
        """True if the recording's bytes were read when it was committed."""
        return bool(self.digests[place])

    def same_stat(self, place: int, source_stat: str | None) -> bool:
        """True if the file had the same size and time when it was committed."""
        return source_stat is not None and bool(self.stats[place] == check_of(source_stat))

    def digest(self, place: int) -> str:
        """The beginning of the sha256, hex."""
        return str(self.digests[place], "ascii")


def check_of(text: str) -> np.uint64:
    """Eight bytes that are independent of the key."""
    digest = hashlib.blake2b(text.encode(), digest_size=8, person=b"speechmill").digest()
    return np.uint64(int.from_bytes(digest, sys.byteorder))


def short(digest: str) -> str:
    """As much of a sha256 (hex) as is kept."""
    return digest[:_DIGITS]


def _part(batch: pa.RecordBatch) -> tuple[Keys, Keys, npt.NDArray[np.bytes_], Keys]:
    ids = batch["recording_id"].to_pylist()
    stats = [None] * len(ids)
    if "source_stat" in batch.schema.names:
        stats = batch["source_stat"].to_pylist()
    return (
        hashed(ids),
        np.array([check_of(one) for one in ids], dtype=np.uint64),
        np.array([short(one or "") for one in batch["source_digest"].to_pylist()], dtype=_DIGEST),
        np.array([0 if one is None else check_of(one) for one in stats], dtype=np.uint64),
    )
