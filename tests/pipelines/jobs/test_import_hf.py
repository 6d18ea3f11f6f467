"""Imports of Hugging Face datasets: tables of three columns, saved splits."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_the_three_columns_of_a_training_row_are_enough(row, toy, tmp_path: Path, stored, run_import) -> None:
    one = row("x")
    frames = one["target_length"]
    rows = {"text": ["words"] * 2, "codes": [one["codes"].tolist()] * 2, "target_length": [frames] * 2}
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table(rows), tmp_path / "source" / "train.parquet")
    assert run_import(tmp_path / "source", tmp_path, "hf") == 0
    found = stored(tmp_path / "new", ["text", "duration_s", "codes"])
    assert sorted(found) == ["train/00000000", "train/00000001"]
    assert found["train/00000001"]["codes"] == one["codes"].tolist()
    assert found["train/00000001"]["duration_s"] == pytest.approx(frames * 0.02)


def test_a_saved_dataset_dict(row, toy, tmp_path: Path, capsys, stored, run_import) -> None:
    import datasets

    columns = {"id": [7, 8], "codes": [row("x")["codes"].tolist(), [[1, 2], [3]]], "mood": ["glad", "sad"]}
    made = datasets.DatasetDict({name: datasets.Dataset.from_dict(columns) for name in ("train", "test")})
    made.save_to_disk(str(tmp_path / "source"))
    assert run_import(tmp_path / "source", tmp_path, "hf") == 2
    assert "split 'test', which is neither for training nor for validation" in capsys.readouterr().err
    assert run_import(tmp_path / "source", tmp_path, "hf", "--split", "train") == 0
    found = stored(tmp_path / "new", ["detail"])
    assert {key: one["split"] for key, one in found.items()} == {"7": "train", "8": "rejected"}
    assert found["8"]["detail"].startswith("codes are missing or of unequal lengths")


def test_a_home_that_cannot_be_written_is_no_hindrance(
    row, toy, tmp_path: Path, run_import, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/no/place")
    codes = row("x")["codes"].tolist()
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"text": ["words"], "codes": [codes]}), tmp_path / "source" / "train.parquet")
    assert run_import(tmp_path / "source", tmp_path, "hf") == 0
