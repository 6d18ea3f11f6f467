"""Imports of VALL-E's file trees and HDF5 files as other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from catalog.command import UsageError
from pipelines.datasets.formats import valle_hdf5
from pipelines.datasets.formats.interface import Import


def test_a_tree_of_another_program(row, toy, tmp_path: Path, stored, run_import) -> None:
    codes = torch.from_numpy(row("x")["codes"])[None]
    folder = tmp_path / "source" / "p225" / "book"
    folder.mkdir(parents=True)
    torch.save(codes.to(torch.int64), folder / "001.qnt.pt")
    (folder / "001.phn.txt").write_text("h ə  l\n")
    torch.save(codes[0], folder / "flat.qnt.pt")
    (folder / "damaged.qnt.pt").write_bytes(b"no tensor")
    torch.save(codes, folder / "mute.qnt.pt")
    torch.save({"codes": Path("x")}, folder / "pickled.qnt.pt")
    assert run_import(tmp_path / "source", tmp_path, "valle-tree") == 0
    found = stored(tmp_path / "new", ["speaker", "phonemes", "reason", "detail"])
    good = found.pop("book/001")
    assert (good["split"], good["speaker"], good["phonemes"]) == ("train", "p225", ["h", "ə", " ", "l"])
    assert {key: one["reason"] for key, one in found.items()} == {
        "book/flat": "unreadable",
        "book/damaged": "unreadable",
        "book/mute": "missing_text",
        "book/pickled": "unreadable",
    }
    assert found["book/flat"]["detail"].startswith("flat.qnt.pt: holds (2, ")
    assert found["book/pickled"]["detail"] == "pickled.qnt.pt: damaged, or holds more than tensors"


def test_hdf5_of_the_original_whose_map_has_a_number_twice(
    row, toy, tmp_path: Path, stored, run_import
) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for index, text in enumerate(([1, 7, 3, 8, 2], [1, 99, 2])):
            group = file.create_group(f"training/LibriTTS/p225/u{index}")
            group.create_dataset("audio", data=row("x")["codes"].T)
            group.create_dataset("text", data=np.array(text, np.uint8))
        file.create_group("noise/hum/n1").create_dataset("audio", data=row("x")["codes"].T)
        file["symmap"] = json.dumps({"<s>": 1, "</s>": 2, " ": 3, "?": 7, "p": 7, "ə": 8})
    assert run_import(tmp_path / "data.h5", tmp_path, "valle-hdf5") == 0
    found = stored(tmp_path / "new", ["phonemes", "detail"])
    assert found["p225/u0"]["phonemes"] == ["p", " ", "ə"]
    assert found["p225/u1"] == {
        "split": "rejected",
        "phonemes": None,
        "detail": "text holds 99, which `symmap` does not have",
    }
    assert len(found) == 2


def test_hdf5_without_its_map_is_one_line(row, toy, tmp_path: Path) -> None:
    """Numbers of phones mean nothing then; a file of codes alone needs none."""
    codes = np.ones((5, toy.n_codebooks), np.int16)
    for name, text in (("phones", True), ("codes", False)):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            group = file.create_group("training/one/utterance")
            group["audio"] = codes
            if text:
                group["text"] = np.array([1, 8, 2], np.uint8)
    with pytest.raises(
        UsageError, match=r"phones\.h5 has numbers for phones .* `symmap` is missing"
    ) as caught:
        list(valle_hdf5.read(tmp_path / "phones.h5", Import(toy)))
    assert "\n" not in str(caught.value)
    (found,) = valle_hdf5.read(tmp_path / "codes.h5", Import(toy))
    assert found["codes"].shape == (toy.n_codebooks, 5)
