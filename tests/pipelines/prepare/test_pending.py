"""The work that is left: every recording in exactly one batch, none that is committed, none that changed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.command import JobError
from catalog.reasons import Reason
from catalog.recordings import recording_key
from pipelines.prepare.known import Known
from pipelines.prepare.pending import Listing
from pipelines.sources.folder import FolderSource
from pipelines.sources.interface import Recording
from pipelines.sources.keys import KeySet
from pipelines.sources.open import open_source


@dataclass(frozen=True)
class Given:
    ids: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    uri: str = "given:"

    def recordings(self) -> Iterator[Recording]:
        sizes = self.sizes or (1000,) * len(self.ids)
        for one, size in zip(self.ids, sizes, strict=True):
            yield Recording(one, f"file:///{one}", size)


def committed(*rows: tuple[str, str | None, str | None] | tuple[str, str]) -> pa.Table:
    """Rows of id, digest and, where given, stat."""
    names = ("recording_id", "source_digest", "source_stat")[: max(map(len, rows), default=3)]
    schema = pa.schema([(name, pa.string()) for name in names])
    return pa.table({name: [row[at] for row in rows] for at, name in enumerate(names)}, schema=schema)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def folder(path: Path, **contents: bytes) -> FolderSource:
    for name, data in contents.items():
        (path / f"{name}.wav").write_bytes(data)
    return FolderSource(path.as_uri())


def problems(listing: Listing, done: pa.Table) -> dict[str, str | None]:
    rows = pa.concat_tables(batch.rows for batch in listing.batches(done))
    return dict(zip(rows["recording_id"].to_pylist(), rows["problem"].to_pylist(), strict=True))


def ids(listing: Listing, done: pa.Table | Known) -> list[str]:
    return [one for batch in listing.batches(done) for one in batch.rows["recording_id"].to_pylist()]


@settings(deadline=None)
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
    planned = listing.count(table)
    assert (planned.recordings, planned.new_recordings) == (len(rows), len(left))
    assert planned.size_bytes == sum(source.sizes)
    assert listing.any_new(table) == bool(left)
    assert listing.is_empty() == (not rows)
    assert ids(listing, pickle.loads(pickle.dumps(Known.of(table)))) == left
    wanted = data.draw(st.sets(st.sampled_from(everything))) if everything else set()
    some = replace(listing, only=frozenset(map(recording_key, wanted)))
    assert ids(some, table) == [one for one in left if one in wanted]
    for batch in listing.batches(committed()):
        sizes = batch.rows["size_bytes"].to_pylist()
        assert sum(sizes[:-1]) < most


def test_batches_start_small_end_small_and_are_the_same_again() -> None:
    listing = Listing(Given(tuple(map(str, range(400))), (100_000,) * 400), workers=2)
    first, second = (list(listing.batches(committed())) for _ in range(2))
    sizes = [batch.rows.num_rows for batch in first]
    assert sizes[0] == 3
    largest = sizes.index(max(sizes))
    assert sizes[:largest] == sorted(sizes[:largest])
    assert sizes[largest:] == sorted(sizes[largest:], reverse=True)
    # No worker is left with more than a megabyte or so when the last batch begins.
    assert sizes[largest] > 40
    assert sizes[-1] <= 11
    assert sum(sizes) == 400
    assert [batch.key for batch in first] == [batch.key for batch in second]
    assert [batch.index for batch in first] == list(range(len(first)))


def test_a_second_recording_of_an_id_is_rejected_under_its_own() -> None:
    (batch,) = Listing(Given(("a", "b", "a", "a"))).batches(committed())
    assert batch.rows["recording_id"].to_pylist() == ["a", "b", "a#2", "a#3"]
    assert batch.rows["problem"].to_pylist() == [None, None, Reason.DUPLICATE_ID, Reason.DUPLICATE_ID]


def test_the_prefix_leads_ids() -> None:
    assert ids(Listing(Given(("a",)), prefix="lj"), committed()) == ["lj/a"]


def test_a_name_that_looks_like_a_second_one_is_not_given_twice() -> None:
    (batch,) = Listing(Given(("a", "a#2", "a", "a", "a#3"))).batches(committed())
    assert batch.rows["recording_id"].to_pylist() == ["a", "a#2", "a#4", "a#5", "a#3"]
    assert [bool(one) for one in batch.rows["problem"].to_pylist()] == [False, False, True, True, False]


def test_a_key_that_two_ids_share_loses_neither() -> None:
    held = Known.of(committed(("a", "d"), ("b", "d")))
    clash = np.full(2, held.keys[0])
    known = Known(clash, held.checks, held.digests, held.stats)
    found = known.find(["a", "b", "c"], np.full(3, clash[0]))
    assert sorted(found.tolist()) == [-1, 0, 1]
    assert found[2] == -1


@given(st.lists(st.lists(st.integers(0, 50), max_size=30), max_size=10))
def test_a_key_set_knows_what_was_added(batches: list[list[int]]) -> None:
    keys, seen = KeySet(), set()
    for batch in batches:
        again = keys.add(np.array(batch, dtype=np.uint64))
        for key, was_there in zip(batch, again, strict=True):
            assert was_there == (key in seen)
            seen.add(key)
        assert keys.contains(np.arange(60, dtype=np.uint64)).tolist() == [one in seen for one in range(60)]


def test_a_changed_recording_is_refused_unless_told_otherwise(tmp_path: Path) -> None:
    source = folder(tmp_path, a=b"before", b=b"b")
    done = committed(("a.wav", sha256(b"before")))
    assert ids(Listing(source), done) == ["b.wav"]
    folder(tmp_path, a=b"after!")
    for check in ("stat", "content"):
        with pytest.raises(JobError, match=r"recording 'a\.wav' has changed since it was committed"):
            ids(Listing(source, check=check), done)
        with pytest.raises(JobError, match=r"recording 'a\.wav' has changed since it was committed"):
            Listing(source, check=check).refuse_changed(done)
        assert ids(Listing(source, check=check, changed="redo"), done) == ["a.wav", "b.wav"]
    assert ids(Listing(source, check="none"), done) == ["b.wav"]
    both = committed(("a.wav", sha256(b"before")), ("b.wav", sha256(b"b")))
    assert Listing(source, changed="redo").any_new(both)
    assert not Listing(source, check="none", changed="redo").any_new(both)


def test_the_stat_is_trusted_and_the_bytes_decide(tmp_path: Path) -> None:
    source = folder(tmp_path, a=b"before")
    (offered,) = source.recordings()
    lying = committed(("a.wav", sha256(b"other"), offered.source_stat))
    assert ids(Listing(source), lying) == []
    with pytest.raises(JobError, match="has changed"):
        ids(Listing(source, check="content"), lying)
    os.utime(tmp_path / "a.wav", ns=(0, 0))
    assert ids(Listing(source), committed(("a.wav", sha256(b"before"), offered.source_stat))) == []
    with pytest.raises(JobError, match="has changed"):
        ids(Listing(source), lying)


def test_what_is_gone_or_was_never_read_has_not_changed(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"path": "gone.wav"}\n{"path": "never.wav"}\n')
    (tmp_path / "never.wav").write_bytes(b"now")
    done = committed(("gone.wav", "0" * 64, "1:1"), ("never.wav", None, None))
    assert ids(Listing(open_source(str(manifest))), done) == []


def test_files_of_unknown_size_are_looked_at_only_to_cut_batches(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x" * 300_000)
    (tmp_path / "b.wav").write_bytes(b"x")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text(
        '{"path": "a.wav"}\n{"path": "b.wav"}\n{"path": "gone.wav"}\n{"path": "b.wav", "offset": 1}\n'
    )
    listing = Listing(open_source(str(manifest)))
    assert listing.count(committed()).on_offer == "sizes unknown until the files are read"
    first, second = listing.batches(committed())
    assert first.rows["size_bytes"].to_pylist() == [300_000]
    assert second.rows["size_bytes"].to_pylist() == [1, None, 1]


def test_a_manifest_of_some_durations_is_of_partly_unknown_size(tmp_path: Path) -> None:
    lines = [{"path": "a.wav", "duration": 3600.0}, {"path": "b.wav"}, {"path": "c.wav", "duration": 3600.0}]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    planned = Listing(open_source(str(tmp_path / "m.jsonl"))).count(committed())
    assert re.fullmatch(r"\d+\.\d MB on offer, 1 of unknown size", planned.on_offer)
    assert planned.size_bytes > 0


@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_the_first_of_equal_bytes_is_kept(tmp_path: Path, kind: str) -> None:
    folder(tmp_path, a=b"same", b=b"else", c=b"same", d=b"longer", e=b"else")
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("".join(f'{{"path": "{one}.wav", "duration": 9}}\n' for one in "abcde"))
    source = open_source(str(manifest if kind == "manifest" else tmp_path))
    listing = Listing(source, duplicates="reject")
    twice = Reason.DUPLICATE_AUDIO.value
    everything = {"a.wav": None, "b.wav": None, "c.wav": twice, "d.wav": None, "e.wav": twice}
    assert problems(listing, committed()) == everything
    assert set(problems(Listing(source), committed()).values()) == {None}
    done = committed(("a.wav", sha256(b"same")), ("e.wav", None))
    assert problems(listing, done) == {"b.wav": None, "c.wav": twice, "d.wav": None}
    only = replace(listing, only=frozenset({recording_key("c.wav")}))
    assert problems(only, done) == {"c.wav": twice}
    assert problems(listing, committed(("e.wav", sha256(b"else"))))["b.wav"] == twice


def test_segments_of_one_file_are_not_the_same_recording(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"x")
    manifest = tmp_path / "m.jsonl"
    lines = [{"path": "a.wav", "offset": at, "duration": 1} for at in (0, 1, 2)]
    manifest.write_text("\n".join(map(json.dumps, lines)))
    listing = Listing(open_source(str(manifest)), duplicates="reject")
    assert problems(listing, committed()) == {f"a.wav#t={at},{at + 1}": None for at in (0, 1, 2)}
