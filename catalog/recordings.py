"""Eight bytes per recording: sets of these stay small for millions, and the log says by them what a file holds."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def recording_key(recording_id: str) -> bytes:
    """8-byte BLAKE2b of the id in UTF-8. Among 10 million ids, two share a key with a probability of 3e-6."""
    return hashlib.blake2b(recording_id.encode(), digest_size=8).digest()


def hashed(ids: pa.ChunkedArray | pa.Array | Iterable[str]) -> Keys:
    """The key of each id as a number (big-endian, so that numbers sort as keys do), in the order given."""
    names = ids.to_pylist() if isinstance(ids, pa.ChunkedArray | pa.Array) else ids
    return numbers(map(recording_key, names))


def pack_keys(ids: pa.ChunkedArray | pa.Array) -> str:
    """Base64 of the sorted keys of the distinct ids, back to back."""
    return base64.b64encode(b"".join(sorted(map(recording_key, pc.unique(ids).to_pylist())))).decode()


def unpack_keys(packed: str) -> Keys:
    """The keys that `pack_keys` packed, as sorted numbers. Raises ValueError for what is no such text."""
    return _numbers(base64.b64decode(packed, validate=True))


def key_bytes(keys: Keys) -> list[bytes]:
    """Numbers as the keys that `recording_key` gives."""
    packed = keys.astype(">u8").tobytes()
    return [packed[at : at + 8] for at in range(0, len(packed), 8)]


def numbers(keys: Iterable[bytes]) -> Keys:
    """Keys of `recording_key` as numbers."""
    return _numbers(b"".join(keys))


def _numbers(packed: bytes) -> Keys:
    return np.frombuffer(packed, ">u8").astype(np.uint64)
