"""Batches: rows and items that are a function of the data, seed and epoch, whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.data import Batch, Batches, CodesBatch, Prefetch, collate_codes, open_batches
from trainers.plan import BatchConfig, Item, Needs, Position
from trainers.store import Store

MakeStore = Callable[..., Store]


@dataclass(frozen=True)
class Listed(Batch):
    """The items themselves."""

    items: tuple[Item, ...]


def list_items(rows: Store, items: Sequence[Item], position: Position) -> Listed:
    return Listed(position, tuple(rows.id(item.row) for item in items), 0, tuple(items))


def write(path: Path, codes: list[list[list[int]]], **columns: list[object]) -> Path:
    table = {"text": ["x"] * len(codes), "codes": pa.array(codes, pa.list_(pa.list_(pa.int16()))), **columns}
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_together_read_what_one_process_reads(batches: Batches[CodesBatch], world: int) -> None:
    group = 6
    alone = [
        (batch.ids, position)
        for taken, position in islice(batches.stream(Position(0, 2), group), 4)
        for batch in taken
    ]
    ranks = [islice(batches.stream(Position(0, 2), group, rank, world), 4) for rank in range(world)]
    together = []
    for updates in zip(*ranks, strict=True):
        shares = [taken for taken, _ in updates]
        assert len({position for _, position in updates}) == 1
        for index in range(group):
            batch = shares[index % world][index // world]
            together.append((batch.ids, updates[0][1]))
    assert together == alone


def test_stream_continues_from_any_position(batches: Batches[CodesBatch]) -> None:
    straight = list(islice(batches.stream(Position(0, 0), 4), 10))
    position = straight[4][1]
    resumed = list(islice(batches.stream(position, 4), 5))
    assert [[b.ids for b in taken] for taken, _ in resumed] == [
        [b.ids for b in taken] for taken, _ in straight[5:]
    ]


def test_after_the_last_batch_comes_the_next_epoch(batches: Batches[CodesBatch]) -> None:
    last = len(batches.epoch(0)) - 1
    assert batches.advance(Position(0, last), 2) == [(0, last), (1, 0), (1, 1)]
    assert next(batches.once()).ids == batches.load(Position(0, 0)).ids


def test_epochs_and_seeds_differ_and_repeat(batches: Batches[CodesBatch]) -> None:
    def items(seed: int, epoch: int) -> list[list[Item]]:
        again = Batches(batches.store, batches.config, seed, collate_codes)
        return [again.items(Position(epoch, batch)) for batch in range(len(again.epoch(epoch)))]

    assert items(0, 1) == items(0, 1)
    orders = {str(items(*place)) for place in ((0, 0), (0, 1), (1, 0))}
    assert len(orders) == 3


def test_the_order_is_one_that_a_run_from_before_goes_on_with(tmp_path: Path) -> None:
    """Written down once: an interrupted run continues with any later release. Other rows come in another order."""

    def order(names: str) -> list[str]:
        rows = [[[1] * (1 + number % 3)] for number in range(len(names))]
        file = write(tmp_path / f"{names}.parquet", rows, id=list(names))
        config = BatchConfig(max_samples=2)
        read = open_batches([file], config, 5, collate_codes, signed=False)
        return ["".join(batch.ids) for batch in read.once(1)]

    assert order("abcdefgh") == ["ag", "cf", "hb", "de"]
    assert order("ijklmnop") == ["oi", "mp", "lj", "nk"]


def test_order_does_not_depend_on_the_layout_of_files(tmp_path: Path) -> None:
    codes = [[[t % 7] * (3 + t)] for t in range(9)]
    ids = [f"u{i}" for i in range(9)]
    one = write(tmp_path / "a.parquet", codes, id=ids)
    parts = [write(tmp_path / f"{n}.parquet", codes[n::2][::-1], id=ids[n::2][::-1]) for n in (1, 0)]
    config = BatchConfig(max_samples=2)
    left = open_batches([one], config, 0, collate_codes, signed=False)
    right = open_batches(parts, config, 0, collate_codes, signed=False)
    assert [b.ids for b in left.once()] == [b.ids for b in right.once()]
    assert left.store.digest == right.store.digest
    other = open_batches([one], config, 1, collate_codes, signed=False)
    assert [b.ids for b in left.once()] != [b.ids for b in other.once()]


def test_codes_above_32767_are_no_samples(tmp_path: Path) -> None:
    stored = [[[0, 32_767, -32_768, -1]]]
    file = write(tmp_path / "a.parquet", stored)
    (batch,) = open_batches([file], BatchConfig(), 0, collate_codes, signed=False).once()
    assert batch.codes_BQT.tolist() == [[[0, 32_767, 32_768, 65_535]]]
    (batch,) = open_batches([file], BatchConfig(), 0, collate_codes, signed=True).once()
    assert batch.codes_BQT.tolist() == stored
    assert batch.codes_BQT.dtype == torch.int16


def test_a_batch_holds_the_rows_codes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1, 2, 3], [4, 5, 6]], [[7], [8]]], id=["p", "q"])
    (batch,) = open_batches([file], BatchConfig(), 0, collate_codes, signed=False).once()
    rows = {
        name: (codes, int(n))
        for name, codes, n in zip(batch.ids, batch.codes_BQT, batch.lengths_B, strict=True)
    }
    assert batch.codes_BQT.dtype == torch.int64
    assert batch.n_tokens == (3 + 1) * 2
    assert rows["p"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert rows["q"] == (pytest.approx(torch.tensor([[7, 0, 0], [8, 0, 0]])), 1)


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 90), st.integers(0, 3))
def test_crops_lie_inside_their_rows(
    make_store: MakeStore, lengths: list[int], size: int, epoch: int
) -> None:
    store = make_store(lengths)
    batches = Batches(store, BatchConfig(crop_frames=size, max_samples=4), 0, collate_codes)
    places = [Position(epoch, batch) for batch in range(len(batches.epoch(epoch)))]
    assert sum(len(batches.items(place)) for place in places) == -(-sum(lengths) // size)
    for place in places:
        items, batch = batches.items(place), batches.load(place)
        assert batch.codes_BQT.dtype == torch.int16
        assert batch.codes_BQT.shape == (len(items), 1, size)
        for item, codes, length in zip(items, batch.codes_BQT, batch.lengths_B.tolist(), strict=True):
            assert length == min(size, lengths[item.row])
            assert item.start + length <= lengths[item.row]
            expected = store.codes(item.row)[0, item.start : item.start + length]
            assert codes[0, :length].tolist() == expected.tolist()
            assert not codes[0, length:].any()


lengths_and_speakers = st.lists(
    st.tuples(st.integers(0, 60), st.sampled_from(["a", "b", "c", None]), st.sampled_from([["p"], [], None])),
    min_size=1,
    max_size=40,
)


@settings(deadline=None)
@given(lengths_and_speakers, st.integers(0, 2), st.integers(0, 3))
def test_every_usable_row_once_with_companions(
    make_store: MakeStore, rows: list[tuple[int, str | None, list[str] | None]], companions: int, epoch: int
) -> None:
    """The rows that are left out are counted by their first reason; buckets count the companions' frames."""
    lengths, speakers, phonemes = map(list, zip(*rows, strict=True))
    columns = {
        "speaker": pa.array(speakers, pa.string()),
        "phonemes": pa.array(phonemes, pa.list_(pa.string())),
    }
    store = make_store(lengths, **columns)
    config = BatchConfig(frames_threshold=100, max_samples=4, max_token_length=50)
    most = 10 if companions else 0
    needs = Needs(("phonemes",), companions, most)
    fitting = {row for row, frames in enumerate(lengths) if 0 < frames <= 50}
    present = {row for row in fitting if phonemes[row] is not None}
    others = {row: {x for x in present if speakers[x] == speakers[row]} - {row} for row in present}
    usable = {
        row
        for row in present
        if not companions or (speakers[row] is not None and len(others[row]) >= companions)
    }
    if not usable:
        with pytest.raises(ValueError, match=f"no row can be used: of {len(rows)} rows, \\d+ "):
            Batches(store, config, 0, list_items, needs)
        return
    batches = Batches(store, config, 0, list_items, needs)
    counts = [len(lengths) - len(fitting), len(fitting) - len(present), len(present) - len(usable)]
    assert list(batches.left_out.values()) == counts[: 2 + bool(companions)]
    assert batches.skipped == len(rows) - len(usable)
    read = list(batches.once(epoch))
    assert sorted(item.row for batch in read for item in batch.items) == sorted(usable)
    for batch in read:
        frames = 0
        for item in batch.items:
            assert len(set(item.companions)) == companions
            assert set(item.companions) <= others[item.row]
            frames += item.frames + sum(min(lengths[row], most) for row in item.companions)
        assert frames <= 100


def items_by_row(batches: Batches[Listed], epoch: int) -> dict[int, Item]:
    return {item.row: item for batch in batches.once(epoch) for item in batch.items}


def test_an_item_is_a_function_of_its_row_not_of_its_batch(make_store: MakeStore) -> None:
    rng = np.random.default_rng(0)
    store = make_store(rng.integers(1, 40, 60), speaker=[f"s{row % 4}" for row in range(60)])
    needs = Needs(companions=2, companion_frames=5)
    configs = [BatchConfig(frames_threshold=n, max_samples=m) for n, m in ((100, 2), (5000, 60), (60, 60))]
    first, *others = [items_by_row(Batches(store, config, 0, list_items, needs), 3) for config in configs]
    assert all(other == first for other in others)
    batches = Batches(store, configs[0], 0, list_items, needs)
    # Nor of what was read before, backwards or by several ranks.
    places = [Position(3, batch) for batch in range(len(batches.epoch(3)))]
    backwards = {item.row: item for place in reversed(places) for item in batches.load(place).items}
    ranks = [next(batches.stream(Position(3, 0), len(places), rank, 3))[0] for rank in range(3)]
    assert (
        backwards == first == {item.row: item for taken in ranks for batch in taken for item in batch.items}
    )
    for other in (
        items_by_row(batches, 4),
        items_by_row(Batches(store, configs[0], 1, list_items, needs), 3),
    ):
        assert len({item.seed for item in [*first.values(), *other.values()]}) == 120
        assert any(other[row].companions != first[row].companions for row in first)


def test_crops_of_one_row_have_seeds_of_their_own(make_store: MakeStore) -> None:
    batches = Batches(make_store([1000]), BatchConfig(crop_frames=10, max_samples=100), 0, list_items)
    (batch,) = batches.once()
    starts = {item.start for item in batch.items}
    assert len({item.seed for item in batch.items}) == len(starts) > 50


def test_rows_that_are_left_out_are_never_cropped(make_store: MakeStore) -> None:
    store = make_store([50, 400, 50], phonemes=[["a"], None, ["b"]])
    batches = Batches(store, BatchConfig(crop_frames=20), 0, list_items, Needs(("phonemes",)))
    assert items_by_row(batches, 0).keys() == {0, 2}
    assert len([item for batch in batches.once() for item in batch.items]) == 5


@pytest.mark.parametrize(
    ("columns", "needs", "reasons"),
    [
        ({"phonemes": [None] * 3}, Needs(("phonemes",)), "1 are empty or longer .*, 2 have no phonemes"),
        (
            {"speaker": ["a", "b", "c"]},
            Needs((), 1, 5),
            "1 are empty or longer .*, 2 have fewer than 1 others of the same speaker; raise max_token_length, .*; "
            "prompts are other rows of the same speaker: name each row's speaker, or choose other objective.prompts$",
        ),
    ],
)
def test_rows_that_are_all_left_out_are_refused(
    make_store: MakeStore, columns: dict[str, Any], needs: Needs, reasons: str
) -> None:
    with pytest.raises(ValueError, match=f"no row can be used: of 3 rows, {reasons}"):
        Batches(make_store([5, 0, 5], **columns), BatchConfig(), 0, list_items, needs)


def test_rows_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1] * 20]])
    with pytest.raises(ValueError, match=r"of 1 rows, 1 are empty or longer than max_token_length=10"):
        open_batches([file], BatchConfig(max_token_length=10), 0, collate_codes, signed=False)


def test_prefetch_gives_everything_in_order_and_passes_errors_on() -> None:
    def items():
        yield from range(20)
        raise ValueError("broken row")

    ahead = Prefetch(items())
    assert [next(ahead) for _ in range(20)] == list(range(20))
    with pytest.raises(ValueError, match="broken row"):
        next(ahead)


def test_a_prefetch_that_is_closed_reads_no_further() -> None:
    """Also while its thread waits for room."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    ahead = Prefetch(items(), depth=2)
    assert next(ahead) == 0
    ahead.close()
    assert not ahead._thread.is_alive()
    # One was taken, two fit into the queue, and one waited for room.
    assert 1 <= len(taken) <= 4


def test_a_batch_moves_with_all_its_tensors_and_nothing_else(batches: Batches[CodesBatch]) -> None:
    batch = batches.load(Position(0, 0))
    moved = batch.to(torch.device("meta"))
    assert moved.codes_BQT.device == moved.lengths_B.device == torch.device("meta")
    assert moved.codes_BQT.shape == batch.codes_BQT.shape
    assert (moved.position, moved.ids, moved.n_tokens) == (batch.position, batch.ids, batch.n_tokens)
