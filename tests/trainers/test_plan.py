"""The order of an epoch: complete, bounded, and the one that runs from before plans were arrays continue in."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import plan as plan_module
from trainers.plan import BatchConfig, IntArray, Needs, Plan, crops, group_by_length

configs = st.builds(
    BatchConfig,
    frames_threshold=st.integers(1, 300),
    max_samples=st.integers(1, 12),
    max_token_length=st.integers(1, 100),
)
row_lengths = st.lists(st.integers(0, 120), max_size=80)


def grouped(lengths: list[int], config: BatchConfig, seed: int) -> Plan:
    sizes_N = np.array(lengths, dtype=np.int64)
    limit = min(config.max_token_length, config.frames_threshold)
    usable_N = (sizes_N > 0) & (sizes_N <= limit)
    return group_by_length(sizes_N, usable_N, config, np.random.default_rng(seed))


def rows_of(plan: Plan) -> list[list[int]]:
    return [plan.batch(index)[0].tolist() for index in range(len(plan))]


def grouped_before(lengths: list[int], config: BatchConfig, rng: np.random.Generator) -> list[IntArray]:
    """As version 5e3c64c did it, row by row."""
    sizes = np.asarray(lengths, dtype=np.int64)
    limit = min(config.max_token_length, config.frames_threshold)
    order = np.lexsort((rng.permutation(len(sizes)), sizes))
    order = order[(sizes[order] <= limit) & (sizes[order] > 0)]
    batches: list[IntArray] = []
    begin = frames = 0
    for at, row in enumerate(order):
        if at > begin and (at - begin >= config.max_samples or frames + sizes[row] > config.frames_threshold):
            batches.append(order[begin:at])
            begin, frames = at, 0
        frames += int(sizes[row])
    if begin < len(order):
        batches.append(order[begin:])
    return [batches[i] for i in rng.permutation(len(batches))]


def cropped_before(
    lengths: IntArray, config: BatchConfig, rng: np.random.Generator
) -> list[list[tuple[int, int]]]:
    """The same for crops."""
    size = config.crop_frames
    assert size is not None
    total = int(lengths.sum())
    count = config.crops_per_epoch or -(-total // size)
    begins = np.sort(rng.integers(0, total, count))
    rows = np.searchsorted(np.cumsum(lengths), begins, side="right")
    spare = np.maximum(lengths[rows] - size, 0)
    starts = (rng.random(count) * (spare + 1)).astype(np.int64)
    pieces = [(int(row), int(start)) for row, start in zip(rows, starts, strict=True)]
    order = rng.permutation(count)
    step = config.max_samples
    return [[pieces[i] for i in order[at : at + step]] for at in range(0, count, step)]


@settings(deadline=None)
@given(row_lengths, configs, st.integers(0, 5))
def test_every_usable_row_once_within_the_limits(lengths: list[int], config: BatchConfig, seed: int) -> None:
    batches = rows_of(grouped(lengths, config, seed))
    limit = min(config.max_token_length, config.frames_threshold)
    usable = [row for row, frames in enumerate(lengths) if 0 < frames <= limit]
    assert sorted(row for batch in batches for row in batch) == usable
    for batch in batches:
        assert 0 < len(batch) <= config.max_samples
        assert sum(lengths[row] for row in batch) <= config.frames_threshold


@settings(deadline=None)
@given(st.lists(st.integers(1, 60), min_size=2, max_size=60), st.integers(0, 5))
def test_batches_are_runs_of_the_sorted_lengths(lengths: list[int], seed: int) -> None:
    config = BatchConfig(frames_threshold=200, max_samples=5, max_token_length=60)
    batches = rows_of(grouped(lengths, config, seed))
    spans = sorted((min(lengths[r] for r in batch), max(lengths[r] for r in batch)) for batch in batches)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize("block", [1 << 20, 1, 7])
@settings(deadline=None)
@given(row_lengths, configs, st.integers(0, 5))
def test_the_plan_is_the_one_of_earlier_versions(
    block: int, lengths: list[int], config: BatchConfig, seed: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "_BLOCK", block)
        found = rows_of(grouped(lengths, config, seed))
    assert found == [rows.tolist() for rows in grouped_before(lengths, config, np.random.default_rng(seed))]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 400), min_size=1, max_size=8).filter(any),
    st.integers(1, 90),
    st.integers(1, 5),
    st.integers(1, 30) | st.none(),
    st.integers(0, 5),
)
def test_the_crops_are_those_of_earlier_versions(
    lengths: list[int], size: int, samples: int, count: int | None, seed: int
) -> None:
    config = BatchConfig(crop_frames=size, max_samples=samples, crops_per_epoch=count)
    lengths_N = np.array(lengths)
    plan = crops(lengths_N, config, np.random.default_rng(seed))
    found = [list(zip(*map(np.ndarray.tolist, plan.batch(i)), strict=True)) for i in range(len(plan))]
    assert found == cropped_before(lengths_N, config, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"companions": -1}, "companions is -1: must not be negative"),
        ({"companions": 2}, "companion_frames is 0 with 2 companions: must be at least 1 with companions"),
        ({"companion_frames": 9}, "companion_frames is 9 with 0 companions: .*, and 0 without"),
        (
            {"companions": 2, "companion_frames": 5, "least_companions": 3},
            "least_companions is 3: must be from 1 to companions, 2",
        ),
    ],
)
def test_needs_that_contradict_themselves_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Needs(**values)  # type: ignore[arg-type]
