"""Imports of WebDataset tars as other programs write them, and of a damaged one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from catalog.datasets import Dataset
from pipelines.datasets.formats.interface import Export
from pipelines.jobs.export import export


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def npy(codes: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, codes, allow_pickle=True)
    return file.getvalue()


def test_tars_of_another_program(row, toy, tmp_path: Path, stored, run_import) -> None:
    codes = npy(row("x")["codes"].astype(np.int64))
    members = {
        "en/a.json": b'{"text": "hi", "duration": 0.5, "mood": 1}',
        "en/a.codes.npy": codes,
        "en/a.mp3": b"x",
    }
    members |= {"b.json": b"[1]", "b.codes.npy": codes, "c.json": b'{"text": "no codes"}'}
    members |= {"d.codes.npy": npy(np.array([{}], dtype=object))}
    tar_of(tmp_path / "source" / "valid" / "000.tar", members)
    assert run_import(tmp_path / "source", tmp_path, "webdataset") == 0
    found = stored(tmp_path / "new", ["text", "duration_s", "reason", "detail"])
    good = {"split": "validation", "text": "hi", "duration_s": 0.5, "reason": None, "detail": None}
    assert found.pop("en/a") == good
    assert {key: one["reason"] for key, one in found.items()} == {
        "b": "unreadable",
        "c": "invalid_row",
        "d": "unreadable",
    }


def test_a_cut_tar_imports_nothing(make_dataset, row, toy, tmp_path: Path, capsys, run_import) -> None:
    export(make_dataset([row("a"), row("b")]), tmp_path / "out", "webdataset", ["train"], Export(toy, "en"))
    path = tmp_path / "out" / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:2600])
    assert run_import(tmp_path / "out", tmp_path, "webdataset") == 1
    assert "train-000000.tar: damaged" in capsys.readouterr().err
    assert not (tmp_path / "new").exists() or Dataset.open(tmp_path / "new").totals().recordings == 0
