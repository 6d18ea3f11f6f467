"""The order of the data: complete, bounded, a function of rows, seed and epoch, whatever the number of ranks."""

from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainers import store as store_module
from trainers.data import BatchConfig, Batches, Position, Prefetch, group_by_length, open_batches
from trainers.store import Store


def write(path: Path, codes: list[list[list[int]]], **columns: list[object]) -> Path:
    table = {"text": ["x"] * len(codes), "codes": pa.array(codes, pa.list_(pa.list_(pa.int16()))), **columns}
    pq.write_table(pa.table(table), path)
    return path


configs = st.builds(
    BatchConfig,
    frames_threshold=st.integers(1, 300),
    max_samples=st.integers(1, 12),
    max_token_length=st.integers(1, 100),
)


@given(st.lists(st.integers(0, 120), max_size=80), configs, st.integers(0, 5))
def test_every_usable_row_once_within_the_limits(lengths: list[int], config: BatchConfig, seed: int) -> None:
    batches = group_by_length(lengths, config, np.random.default_rng(seed))
    limit = min(config.max_token_length, config.frames_threshold)
    usable = [row for row, frames in enumerate(lengths) if 0 < frames <= limit]
    assert sorted(int(row) for batch in batches for row in batch) == usable
    for batch in batches:
        assert 0 < len(batch) <= config.max_samples
        assert sum(lengths[row] for row in batch) <= config.frames_threshold


@given(st.lists(st.integers(1, 60), min_size=2, max_size=60), st.integers(0, 5))
def test_batches_are_runs_of_the_sorted_lengths(lengths: list[int], seed: int) -> None:
    config = BatchConfig(frames_threshold=200, max_samples=5, max_token_length=60)
    batches = group_by_length(lengths, config, np.random.default_rng(seed))
    spans = sorted((min(lengths[r] for r in batch), max(lengths[r] for r in batch)) for batch in batches)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_together_read_what_one_process_reads(batches: Batches, world: int) -> None:
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


def test_stream_continues_from_any_position(batches: Batches) -> None:
    straight = list(islice(batches.stream(Position(0, 0), 4), 10))
    position = straight[4][1]
    resumed = list(islice(batches.stream(position, 4), 5))
    assert [[b.ids for b in taken] for taken, _ in resumed] == [
        [b.ids for b in taken] for taken, _ in straight[5:]
    ]


def test_epochs_and_seeds_differ_and_repeat(batches: Batches) -> None:
    again = Batches(batches.store, batches.config, batches.seed)
    assert batches.epoch(1) == again.epoch(1)
    assert batches.epoch(0) != batches.epoch(1)
    assert batches.epoch(0) != Batches(batches.store, batches.config, 1).epoch(0)


def test_order_does_not_depend_on_the_layout_of_files(tmp_path: Path) -> None:
    codes = [[[t % 7] * (3 + t)] for t in range(9)]
    ids = [f"u{i}" for i in range(9)]
    one = write(tmp_path / "a.parquet", codes, id=ids)
    parts = [write(tmp_path / f"{n}.parquet", codes[n::2][::-1], id=ids[n::2][::-1]) for n in (1, 0)]
    config = BatchConfig(max_samples=2)
    left = open_batches([one], config, 0, codebook_size=1024)
    right = open_batches(parts, config, 0, codebook_size=1024)
    assert [b.ids for b in left.once()] == [b.ids for b in right.once()]
    assert left.store.digest == right.store.digest


def test_a_batch_holds_the_rows_codes(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1, 2, 3], [4, 5, 6]], [[7], [8]]], id=["p", "q"])
    (batch,) = open_batches([file], BatchConfig(), 0, codebook_size=1024).once()
    rows = {
        name: (codes, int(n))
        for name, codes, n in zip(batch.ids, batch.codes_BQT, batch.lengths_B, strict=True)
    }
    assert batch.codes_BQT.dtype == torch.int64
    assert rows["p"][0].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert rows["q"] == (pytest.approx(torch.tensor([[7, 0, 0], [8, 0, 0]])), 1)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=8), st.integers(1, 90), st.integers(0, 3))
def test_crops_lie_inside_their_rows(lengths: list[int], size: int, epoch: int) -> None:
    offsets = np.cumsum([0, *lengths[:-1]])
    flat = np.arange(sum(lengths), dtype=np.int16)
    ids = [f"r{i}" for i in range(len(lengths))]
    store = Store(ids, [""] * len(ids), np.array(lengths), 1, True, "d", flat, offsets)
    batches = Batches(store, BatchConfig(crop_frames=size, max_samples=4), 0)
    plan = batches.epoch(epoch)
    assert sum(map(len, plan)) == -(-sum(lengths) // size)
    for index, pieces in enumerate(plan):
        batch = batches.load(Position(epoch, index))
        assert batch.codes_BQT.dtype == torch.int16
        assert batch.codes_BQT.shape == (len(pieces), 1, size)
        for (row, start, frames), codes, length in zip(pieces, batch.codes_BQT, batch.lengths_B, strict=True):
            assert frames == length == min(size, lengths[row])
            expected = np.arange(offsets[row] + start, offsets[row] + start + frames)
            assert codes[0, :frames].tolist() == expected.tolist()
            assert start + frames <= lengths[row]


def test_large_data_is_mapped_and_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.parquet", [[[t, -t] for _ in range(3)] for t in range(50)])
    plain = Store.read([file], signed=True)
    monkeypatch.setattr(store_module, "MEMORY_LIMIT_BYTES", 0)
    for _ in range(2):
        mapped = Store.read([file], signed=True, cache=tmp_path / "cache")
        assert mapped.digest == plain.digest
        assert all(np.array_equal(mapped.codes(row), plain.codes(row)) for row in range(50))
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ([[[1, 2], [3]]], "must be a rectangle"),
        ([[[1, 2]], [[1, 2], [3, 4]]], r"rows of \[1, 2\] codebooks"),
        ([], "hold no row"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, codes: list[list[list[int]]], message: str) -> None:
    file = write(tmp_path / "a.parquet", codes)
    with pytest.raises(ValueError, match=message):
        Store.read([file], signed=False)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"]}), path)
    with pytest.raises(ValueError, match=r"a\.parquet has no column codes"):
        Store.read([path], signed=False)


def test_rows_that_are_all_too_long_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1] * 20]])
    with pytest.raises(ValueError, match=r"of 1 rows, 1 are empty or longer than max_token_length=10"):
        open_batches([file], BatchConfig(max_token_length=10), 0, codebook_size=1024)


def test_prefetch_gives_everything_in_order_and_passes_errors_on() -> None:
    def items():
        yield from range(20)
        raise ValueError("broken row")

    ahead = Prefetch(items())
    assert [next(ahead) for _ in range(20)] == list(range(20))
    with pytest.raises(ValueError, match="broken row"):
        next(ahead)
