"""The index from recordings to files says what a search through all files says."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import holders
from catalog.command import JobError
from catalog.holders import Holders, count_recordings, keys_of
from catalog.schema import Shard
from catalog.storage import Storage, open_storage

NEAR = st.integers(2**63, 2**63 + 12)
"""Keys that a float cannot tell apart."""


@pytest.fixture(scope="module")
def storage() -> Storage:
    """Nothing lies there: the log has all keys."""
    return open_storage("/nowhere")


def shard(name: int, keys: set[int]) -> Shard:
    packed = base64.b64encode(np.array(sorted(keys), ">u8").tobytes()).decode()
    return Shard(f"split=train/{name}", "train", 1, 1, "", len(keys), 0.0, "r", "d", packed)


@given(
    data=st.data(), files=st.lists(st.sets(NEAR, min_size=1, max_size=4), max_size=12), asked=st.sets(NEAR)
)
def test_it_finds_what_a_search_finds(
    data: Any, files: list[set[int]], asked: set[int], storage: Storage
) -> None:
    index = Holders(storage)
    shards = [shard(name, keys) for name, keys in enumerate(files)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(files)), max_size=4)))
    keys = np.array(sorted(asked), np.uint64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holders, "_MERGE_FILES", 3)
        for end in (*cuts, len(files), len(files)):
            index.follow(shards[:end])  # those that are known are offered again
            held = set().union(*files[:end])
            assert index.held(keys).tolist() == sorted(asked & held)
            assert index.paths(keys) == {
                one.path for one, theirs in zip(shards[:end], files, strict=False) if theirs & asked
            }
    assert count_recordings(storage, shards) == len(set().union(*files))


def test_keys_that_are_damaged_are_named(storage: Storage) -> None:
    for text in ("AAAA", "no base64!"):
        broken = Shard("split=train/a", "train", 1, 1, "", 1, 0.0, "r", "d", text)
        with pytest.raises(
            JobError, match=r"^/nowhere/split=train/a: its recording_keys in the log are damaged$"
        ):
            keys_of(storage, broken)
