"""What is left to do: every recording in exactly one batch, none that is committed, none that changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.command import JobError
from catalog.reasons import Reason
from pipelines.listing import Listing
from pipelines.sources.folder import FolderSource
from pipelines.sources.interface import Recording


@dataclass(frozen=True)
class Given:
    ids: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    uri: str = "given:"

    def recordings(self) -> Iterator[Recording]:
        sizes = self.sizes or (1000,) * len(self.ids)
        for one, size in zip(self.ids, sizes, strict=True):
            yield Recording(one, f"file:///{one}", size)


def committed(*rows: tuple[str, str]) -> pa.Table:
    schema = pa.schema([("recording_id", pa.string()), ("source_digest", pa.string())])
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(schema.names)}, schema=schema)


def ids(listing: Listing, done: pa.Table) -> list[str]:
    return [one for batch in listing.batches(done) for one in batch.rows["recording_id"].to_pylist()]


@given(
    st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=3), st.integers(0, 3 << 20)), max_size=60),
    st.integers(1, 4 << 20),
    st.data(),
)
def test_new_recordings_are_in_exactly_one_batch(
    rows: list[tuple[str, int]], most: int, data: st.DataObject
) -> None:
    source = Given(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
    listing = Listing(source, check="none", max_bytes=most)
    everything = ids(listing, committed())
    assert len(everything) == len(rows) == len(set(everything))
    done = data.draw(st.sets(st.sampled_from(everything))) if everything else set()
    table = committed(*((one, "d") for one in done))
    left = ids(listing, table)
    assert left == [one for one in everything if one not in done]
    assert listing.plan(table).new_recordings == len(left)
    for batch in listing.batches(committed()):
        sizes = batch.rows["size_bytes"].to_pylist()
        assert sum(sizes[:-1]) < most


def test_batches_start_small_and_are_the_same_again() -> None:
    listing = Listing(Given(tuple(map(str, range(400))), (100_000,) * 400), workers=2)
    first, second = (list(listing.batches(committed())) for _ in range(2))
    sizes = [batch.rows.num_rows for batch in first]
    assert sizes[0] == 3
    assert sizes[:-1] == sorted(sizes[:-1])
    assert [batch.key for batch in first] == [batch.key for batch in second]
    assert [batch.index for batch in first] == list(range(len(first)))


def test_a_second_recording_of_an_id_is_rejected_under_its_own() -> None:
    (batch,) = Listing(Given(("a", "b", "a", "a"))).batches(committed())
    assert batch.rows["recording_id"].to_pylist() == ["a", "b", "a#2", "a#3"]
    assert batch.rows["problem"].to_pylist() == [None, None, Reason.DUPLICATE_ID, Reason.DUPLICATE_ID]


def test_the_prefix_leads_ids() -> None:
    assert ids(Listing(Given(("a",)), prefix="lj"), committed()) == ["lj/a"]


def test_a_changed_recording_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"before")
    (tmp_path / "b.wav").write_bytes(b"b")
    source = FolderSource(tmp_path.as_uri())
    done = committed(("a.wav", hashlib.sha256(b"before").hexdigest()))
    assert ids(Listing(source), done) == ["b.wav"]
    (tmp_path / "a.wav").write_bytes(b"after!")
    with pytest.raises(JobError, match=r"recording 'a\.wav' has changed since it was committed"):
        ids(Listing(source), done)
    assert ids(Listing(source, check="none"), done) == ["b.wav"]
