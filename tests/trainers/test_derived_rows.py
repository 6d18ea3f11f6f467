"""Derived rows: read only for their task, never companions, in no figure, with their prompts counted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.appending import Appender
from catalog.datasets import Dataset
from catalog.shards import write_shard
from trainers.data import OTHER_TASK, Batches, collate_codes
from trainers.plan import BatchConfig, Needs, Position
from trainers.store import Store

IDS = ["a", "a#aug1", "a#ns", "b", "b#tse", "c", "d#sr"]
TASKS = [None, "tts", "ns", None, "tse", None, "sr"]
LENGTHS = [10, 10, 10, 20, 20, 30, 5]


@pytest.fixture
def rows(tmp_path: Path) -> Store:
    """Three utterances of one speaker, and derived rows, one without its origin."""
    prompts = [None if task in (None, "tts") else [[1] * 7] for task in TASKS]
    table = {
        "id": IDS,
        "text": ["xx"] * 7,
        "codes": pa.array([[[1] * length] for length in LENGTHS], pa.list_(pa.list_(pa.int16()))),
        "speaker": ["s"] * 7,
        "task": pa.array(TASKS, pa.string()),
        "prompt_codes": pa.array(prompts, pa.list_(pa.list_(pa.int16()))),
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    optional = ("task", "prompt_codes")
    return Store.read([tmp_path / "rows.parquet"], signed=False, columns=["speaker"], nullable=optional)


def used(rows: Store, needs: Needs, threshold: int = 1000) -> tuple[set[str], Batches[Any]]:
    batches = Batches(rows, BatchConfig(frames_threshold=threshold), 0, collate_codes, needs)
    places = [Position(0, batch) for batch in range(len(batches.epoch(0)))]
    return {rows.id(item.row) for place in places for item in batches.items(place)}, batches


def test_a_training_reads_the_tasks_that_it_needs(rows: Store) -> None:
    everyone, batches = used(rows, Needs())
    assert (everyone, batches.left_out[OTHER_TASK]) == ({"a", "a#aug1", "b", "c"}, 3)
    assert used(rows, Needs(tasks=()))[0] == {"a", "b", "c"}
    assert used(rows, Needs(tasks=("ns", "sr")))[0] == {"a", "a#ns", "b", "c", "d#sr"}
    assert used(rows, Needs(), threshold=20)[0] == {"a", "a#aug1", "b"}, "wanted, but too long"


def test_their_companions_are_those_of_their_origin(rows: Store) -> None:
    """Neither a derived row nor the utterance that it is made of: its speech is what is to be learned."""
    origins = rows.origins()
    assert origins is not None
    assert origins.tolist() == [0, 0, 0, 3, 3, 5, -1]
    needs = Needs(tasks=("tts", "ns", "tse", "sr"), companions=2, companion_frames=9)
    found, batches = used(rows, needs)
    assert found == {*IDS} - {"d#sr"}, "without its origin it has no companions"
    for epoch in range(20):
        for batch in range(len(batches.epoch(epoch))):
            for item in batches.items(Position(epoch, batch)):
                names = {rows.id(row) for row in item.companions}
                assert names == {"a", "b", "c"} - {rows.id(item.row)[0]}


def test_prompts_fill_batches(rows: Store) -> None:
    assert rows.widths("prompt_codes").tolist() == [0, 0, 7, 0, 7, 0, 7]
    needs = Needs(tasks=("ns", "tse", "sr"), prompts=True)
    found, batches = used(rows, needs, threshold=27)
    assert found == {"a", "a#ns", "b", "b#tse", "d#sr"}
    for batch in range(len(batches.epoch(0))):
        items = batches.items(Position(0, batch))
        assert sum(LENGTHS[item.row] + 7 * (TASKS[item.row] is not None) for item in items) <= 27


def test_they_are_in_no_figure(rows: Store) -> None:
    assert rows.recorded().tolist() == [0, 3, 5]
    assert rows.frames_per_byte() == (10 + 20 + 30) / 6


def test_a_fit_reads_the_copies_of_a_dataset(
    bigram_family: str, fit: Any, make_dataset: Callable[..., str]
) -> None:
    uri = make_dataset(rows=6, validation=2)
    plan = fit(uri, words=("--dry-run",))[1]
    assert (plan["rows"], plan["rows_left_out"]) == (6, 0)
    appender = Appender.open(uri)
    appender.committed()
    train = appender.dataset.read(["text", "codes", "target_length"], "train")
    for task in ("tts", "ns"):
        names = pa.array([f"r{row}#{task}" for row in range(6)])
        derived = pa.table(
            {
                "id": names,
                "recording_id": names,
                **{name: train[name] for name in train.column_names},
                "task": [task] * 6,
                "split": ["derived"] * 6,
            }
        )
        appender.append(write_shard(derived, uri, "test", appender.dataset.codec))
    plan = fit(uri, words=("--dry-run",))[1]
    assert (plan["rows"], plan["left_out"], plan["validation_rows"]) == (18, {OTHER_TASK: 6}, 2)
    plan = fit(uri, "data.copies=false", words=("--dry-run",))[1]
    assert (plan["rows"], plan["left_out"]) == (6, {})
    code, result, error = fit(uri)
    assert (code, result["left_out"]) == (0, {OTHER_TASK: 6}), error


def test_a_validation_without_a_usable_row_says_so(
    bigram_family: str, fit: Any, make_dataset: Callable[..., str]
) -> None:
    dataset = Dataset.open(make_dataset(rows=40, validation=1))
    least = {
        split: min(dataset.read(["target_length"], split)["target_length"].to_pylist())
        for split in ("train", "validation")
    }
    assert least["train"] < least["validation"]
    code, _, error = fit(dataset.uri, f"data.batch.max_token_length={least['train']}", words=("--dry-run",))
    assert (code, error.count("\n")) == (1, 1)
    assert f"split validation of {dataset.uri}: no row can be used: of 1 rows, 1 are empty or longer" in error
