"""Noisy copies: the same recordings, further rows, the same noise every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from catalog.appending import Appender
from catalog.creation import create
from catalog.identity import Identity
from catalog.reasons import Reason
from catalog.schema import SCHEMA as STORED
from catalog.shards import write_shard
from catalog.upkeep import verify
from models.codec_sources import load_codec
from pipelines.prepare.settings import PrepareSettings
from pipelines.prepare.steps import layout_of, steps_of
from pipelines.rows import SCHEMA, reject, samples_array, waves, with_column
from pipelines.stages.augment import AugmentStage, noisy
from pipelines.stages.codec import CodecStage
from pipelines.stages.write import WriteStage, Written


def rows_of(*lengths: int) -> pa.Table:
    names = [f"recording{row}" for row in range(len(lengths))]
    tones = [np.sin(np.arange(length, dtype=np.float32) / 9) for length in lengths]
    columns = {name: pa.nulls(len(lengths), SCHEMA.field(name).type) for name in SCHEMA.names}
    columns |= {"id": pa.array(names), "recording_id": pa.array(names), "text": pa.array(names)}
    columns |= {"duration_s": pa.array([length / 16_000 for length in lengths])}
    return pa.table(columns | {"samples": samples_array(tones)}, schema=SCHEMA)


def test_copies_stand_behind_their_originals_and_rejected_rows_have_none() -> None:
    table = reject(rows_of(5000, 3000, 4000), {1: (Reason.SILENT, "peak is 0")})
    found = AugmentStage(copies=3, noise_std=6e-4, validation=0.0, seed=0)(table)
    assert found.drop_columns(["task"]).schema == table.schema
    assert found["id"].to_pylist() == [
        *("recording0", "recording0#aug1", "recording0#aug2"),
        "recording1",
        *("recording2", "recording2#aug1", "recording2#aug2"),
    ]
    assert found["recording_id"].to_pylist() == found["text"].to_pylist()
    assert found["reason"].to_pylist() == [None, None, None, "silent", None, None, None]
    assert found["task"].to_pylist() == [None, "tts", "tts", None, None, "tts", "tts"]
    assert found["split"].to_pylist() == [None, "derived", "derived", None, None, "derived", "derived"]
    before, after = waves(table), waves(found)
    assert np.array_equal(after[0], before[0])
    assert after[3] is None
    for copy in (1, 2):
        difference = after[copy] - before[0]
        inside = np.abs(before[0]) < 0.9  # full scale cuts the rest
        assert float(difference[inside].std()) == pytest.approx(6e-4, rel=0.1)
    assert not np.array_equal(after[1], after[2])


@given(st.floats(0.001, 1), st.text(max_size=5), st.text(max_size=5))
def test_noise_follows_from_the_id_and_stays_within_full_scale(std: float, first: str, second: str) -> None:
    wave = np.linspace(-1, 1, 50, dtype=np.float32)
    made = noisy(wave, std, first)
    assert made.dtype == np.float32
    assert np.array_equal(made, noisy(wave, std, first))
    assert float(np.abs(made).max()) <= 1
    assert np.array_equal(made, noisy(wave, std, second)) == (first == second)


def test_copies_are_of_what_is_trained_on_and_in_no_figure(tmp_path: Path) -> None:
    """Whatever decides the split of a recording, its copies are not in it, and validation rows have none."""
    identity = load_codec("pcm-16khz").identity
    appender = Appender(create(tmp_path, identity, {}))
    table = rows_of(*[4000] * 20)
    given = [None] * 18 + ["train", "validation"]
    augmented = AugmentStage(4, 6e-4, 0.5, 0)(with_column(table, "split", given))
    written = Written.from_table(
        WriteStage(str(tmp_path), "run", identity, 0.5, 0)(CodecStage("pcm-16khz")(augmented))
    )
    appender.append(written.shards)
    dataset = appender.dataset
    train = dataset.read(["id"], "train")["id"].to_pylist()
    copies = dataset.read(["id", "task"], "derived").to_pydict()
    assert 2 < len(train) < 18
    assert sorted(copies["id"]) == sorted(f"{row}#aug{number}" for row in train for number in (1, 2, 3))
    assert set(copies["task"]) == {"tts"}
    assert not any("#" in row for row in dataset.read(["id"], "validation")["id"].to_pylist())
    totals = dataset.totals()
    assert (totals.recordings, totals.utterances, totals.derived) == (20, 20, 3 * len(train))
    assert totals.hours * 3600 == pytest.approx(20 * 0.25)
    assert written.seconds == pytest.approx(20 * 0.25)
    assert verify(dataset) == []


def test_a_row_is_in_the_split_that_its_task_says() -> None:
    identity = load_codec("pcm-16khz").identity
    table = CodecStage("pcm-16khz")(AugmentStage(2, 6e-4, 0.0, 0)(rows_of(4000)))
    stored = table.select([name for name in STORED.names if name in table.column_names])
    for split, rule in (("train", "1 rows belong into the split derived"), ("derived", "1 rows must say")):
        with pytest.raises(ValueError, match=rule):
            write_shard(stored.append_column("split", pa.array([split] * 2)), "unused", "run", identity)


def test_datasets_without_copies_are_what_they_were() -> None:
    assert "augment" not in PrepareSettings().of_rows
    settings = PrepareSettings.model_validate({"augment": {"copies": 4}})
    assert settings.of_rows["augment"] == {"copies": 4, "noise_std": 6e-4}
    with pytest.raises(ValidationError, match="greater than or equal to 2"):
        PrepareSettings.model_validate({"augment": {"copies": 1}})


@pytest.mark.parametrize("layout", ["together", "apart"])
def test_copies_are_made_by_the_worker_of_the_codec(layout: str) -> None:
    settings = PrepareSettings.model_validate(
        {"augment": {"copies": 2}, "resources": {"layout": layout, "device": "cpu"}}
    )
    steps = steps_of(
        layout_of(settings, [{"CPU": 4, "GPU": 0}]),
        settings,
        Identity(load_codec("pcm-16khz").identity, {}),
        "data",
        "run",
    )
    kinds = next(kinds for step in steps if CodecStage in (kinds := [stage.factory for stage in step.stages]))
    assert kinds[kinds.index(CodecStage) - 1] is AugmentStage
