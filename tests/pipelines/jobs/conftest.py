"""Imports by the command, and the rows that a dataset holds afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import speechmill
from catalog.datasets import Dataset
from models.identity import TokenIdentity
from pipelines.datasets.read import batches


@pytest.fixture(scope="session")
def stored() -> Callable[[str | Path, Sequence[str]], dict[str, dict[str, Any]]]:
    """stored(uri, columns): rows by id, with their split."""

    def read(uri: str | Path, columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        dataset = Dataset.open(uri)
        return {
            one["id"]: {"split": split} | {name: one[name] for name in columns}
            for split in ("train", "validation", "rejected")
            for table in batches(dataset, dataset.shards(split))
            for one in table.to_pylist()
        }

    return read


@pytest.fixture(scope="session")
def run_import(toy: TokenIdentity) -> Callable[..., int]:
    """run_import(source, folder, format, *words): import-shards with a codec.json of the toy; makes `folder`/new."""

    def run(source: Path, folder: Path, format_: str, *words: str) -> int:
        codec = folder / "toy.json"
        codec.write_text(toy.to_json())
        given = [str(source), str(folder / "new"), "--format", format_, "--codec", str(codec)]
        return speechmill.main(["import-shards", *given, *words])

    return run
