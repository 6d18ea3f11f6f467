"""docs/data.md and the code say the same, and its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from catalog.datasets import Dataset
from catalog.filters import FILTERS, REASONS
from catalog.schema import SCHEMA
from catalog.upkeep import compact

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def table_rows(heading: str) -> list[list[str]]:
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]
    return rows


def example(word: str) -> str:
    (block,) = [
        block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if f"import {word}\n" in block
    ]
    return block


def test_columns() -> None:
    documented = [(name, kind) for name, kind, _ in table_rows("Rows")]
    assert documented == [(field.name, re.sub(r"(item|element): ", "", str(field.type))) for field in SCHEMA]


def test_reasons() -> None:
    assert table_rows("Reasons") == [[word, meaning.strip("`")] for word, meaning in REASONS.items()]


def test_filters() -> None:
    assert table_rows("Filters") == [
        [setting, one.measure.column, one.comparison, one.reason] for setting, one in FILTERS.items()
    ]


@pytest.fixture
def described(appender, append) -> Dataset:
    """A dataset where reading the folder would be wrong: compacted, with rejected rows and a stray file."""
    for name in "abc":
        append([name])
    append(["x"], "rejected", "silent")
    compact(appender.dataset)
    (Path(appender.uri) / "split=train" / "stray.parquet").write_bytes(
        (Path(appender.uri) / Dataset.open(appender.uri).shards("train")[0].path).read_bytes()
    )
    return Dataset.open(appender.uri)


def read(described: Dataset, word: str):
    code = example(word).replace('"datasets/mine"', repr(described.uri))
    scope = {"files": described.file_uris("train")}
    exec(code, scope)
    return scope["rows"]


def expected(described: Dataset) -> list[dict[str, object]]:
    return [row for uri in described.file_uris("train") for row in pq.ParquetFile(uri).read().to_pylist()]


def test_the_first_example(described) -> None:
    code = example("Dataset").replace('"datasets/mine"', repr(described.uri))
    scope: dict[str, object] = {}
    exec(code, scope)
    assert scope["files"] == described.file_uris("train")
    assert len(scope["files"]) == 1


def test_datasets_reads_it(described, tmp_path, monkeypatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path))  # HF_HOME was read at its import
    assert list(read(described, "datasets")) == expected(described)


def test_duckdb_reads_it(described) -> None:
    pytest.importorskip("duckdb")
    assert read(described, "duckdb").fetchall() == [
        (row["text"], row["target_length"]) for row in expected(described)
    ]


def test_duckdb_reads_codes(described) -> None:
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        "select codes from read_parquet($files)", params={"files": described.file_uris("train")}
    )
    assert [row[0] for row in found.fetchall()] == [row["codes"] for row in expected(described)]


def test_polars_reads_it(described) -> None:
    pytest.importorskip("polars")
    assert read(described, "polars").to_dicts() == expected(described)


@pytest.mark.ray
@pytest.mark.slow
def test_ray_reads_it(described, ray_session) -> None:
    assert sorted(read(described, "ray").take_all(), key=lambda row: row["id"]) == expected(described)
