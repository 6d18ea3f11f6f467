"""Keys of recordings are part of the log's format: they may never change."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.recordings import hashed, key_bytes, numbers, pack_keys, recording_key, unpack_keys

NAMES = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8)


def test_a_key_is_eight_bytes_of_blake2b() -> None:
    assert (
        recording_key("speech/a ü.wav") == hashlib.blake2b("speech/a ü.wav".encode(), digest_size=8).digest()
    )
    assert recording_key("a").hex() == "40f89e395b66422f"


def test_keys_in_the_log_are_what_they_were() -> None:
    assert pack_keys(pa.array(["b", "a", "b"])) == "QPieOVtmQi+EcsLjTYVPdQ=="
    assert pack_keys(pa.array([], pa.string())) == ""


@given(NAMES)
def test_numbers_sort_as_keys_do_and_come_back(names: list[str]) -> None:
    keys = [recording_key(name) for name in names]
    found = hashed(names)
    assert found.dtype == np.uint64
    assert found.tolist() == [int.from_bytes(key, "big") for key in keys]
    assert key_bytes(found) == keys
    assert numbers(keys).tolist() == found.tolist()
    assert key_bytes(np.sort(found)) == sorted(keys)
    assert unpack_keys(pack_keys(pa.array(names, pa.string()))).tolist() == sorted(set(found.tolist()))


def test_ids_may_be_in_any_kind_of_column() -> None:
    names = ["b", "a", "c"]
    for column in (pa.array(names), pa.chunked_array([names[:1], names[1:]]), iter(names)):
        assert hashed(column).tolist() == hashed(names).tolist()


@pytest.mark.parametrize("packed", ["AAA", "AAAA", "!AAAAAAAAAAA=", "ü"])
def test_other_texts_hold_no_keys(packed: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - base64's own words
        unpack_keys(packed)
