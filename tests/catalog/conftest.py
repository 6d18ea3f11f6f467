"""Small rows of a made-up codec: two codebooks of 1024 entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.appending import Appender
from catalog.creation import create
from catalog.schema import SCHEMA, Shard
from catalog.shards import write_shard
from models.identity import TokenIdentity

CODEC = TokenIdentity("toy", "1", "00ff", 16000, 320, 2, 1024)
Append = Callable[..., list[Shard]]


def make_rows(recordings: Sequence[str], split: str = "train", reason: str | None = None) -> pa.Table:
    """Two utterances a recording, of 3 and 4 frames; one row without codes if rejected."""
    rejected = split == "rejected"
    columns = {
        name: []
        for name in ("id", "recording_id", "text", "codes", "target_length", "duration_s", "reason", "split")
    }
    for recording in recordings:
        for index in range(1 if rejected else 2):
            frames = 3 + index
            columns["id"].append(f"{recording}-{index}")
            columns["recording_id"].append(recording)
            columns["text"].append(None if rejected else f"text of {recording}")
            columns["codes"].append(None if rejected else [list(range(frames)), [1023] * frames])
            columns["target_length"].append(None if rejected else frames)
            columns["duration_s"].append(frames * 0.02)
            columns["reason"].append(reason)
            columns["split"].append(split)
    schema = SCHEMA.append(pa.field("split", pa.string()))
    return pa.table(columns, schema=pa.schema([schema.field(name) for name in columns]))


@pytest.fixture(scope="session")
def codec() -> TokenIdentity:
    return CODEC


@pytest.fixture(scope="session")
def rows() -> Callable[..., pa.Table]:
    return make_rows


@pytest.fixture
def appender(tmp_path: Path) -> Appender:
    """To an empty dataset."""
    made = Appender(create(tmp_path / "data", CODEC, {"segmentation": {"max_s": 30.0}, "text": "as given"}))
    made.committed()
    return made


@pytest.fixture
def append(appender: Appender) -> Append:
    """Write rows of these recordings and commit them: append(["a", "b"], split=..., reason=..., retry=...)."""

    def write(
        recordings: Sequence[str], split: str = "train", reason: str | None = None, **options
    ) -> list[Shard]:
        shards = write_shard(make_rows(recordings, split, reason), appender.uri, "test", CODEC)
        appender.append(shards, **options)
        return shards

    return write
