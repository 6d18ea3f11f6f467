"""Imports of hostile files: a row or a file costs itself, and what is refused is named."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest

from catalog.command import JobError, UsageError
from models.identity import TokenIdentity
from pipelines.datasets.formats import valle_hdf5, valle_tree, webdataset
from pipelines.datasets.formats.interface import Import
from pipelines.datasets.formats.rows import check
from pipelines.datasets.isolated_reader import read_isolated


def members_of(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            archive.addfile(member, io.BytesIO(data))


def npy_file(header: str, data: bytes = b"") -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    ("json_", "codes"),
    [
        ("[" * 100_000, None),
        ("{}", npy_file("{'descr': '<i2', 'fortran_order': False, 'shape': (1000000000000, 2)}")),
        ("{}", npy_file("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"x" * 8)),
        ("{}", npy_file("(" * 5000)),
        ("{}", b"PK\x03\x04 a zip of arrays"),
        ('{"speaker": "\\ud800"}', None),
    ],
)
def test_a_hostile_member_costs_its_row(row, toy, tmp_path: Path, json_: str, codes: bytes | None) -> None:
    good = io.BytesIO()
    np.save(good, row("good")["codes"])
    members = {
        "bad.json": json_.encode(),
        "bad.codes.npy": good.getvalue() if codes is None else codes,
        "good.json": b"{}",
        "good.codes.npy": good.getvalue(),
    }
    members_of(tmp_path / "train-0.tar", members)
    found = list(webdataset.read(tmp_path / "train-0.tar", Import(toy)))
    checked = [check(one, toy) for one in found]
    assert [one.get("reason") is None for one in checked] == [False, True]


def test_a_tar_that_leads_back_is_refused(toy, tmp_path: Path) -> None:
    path = tmp_path / "train-0.tar"
    members_of(path, {"a.json": b"{}"})
    header = bytearray(path.read_bytes()[:512])
    header[124:136] = (2**96 - 512).to_bytes(12, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(JobError, match=r"train-0\.tar: damaged"):
        list(webdataset.read(path, Import(toy)))


def test_links_and_bombs_of_hdf5(row, toy, tmp_path: Path) -> None:
    path = tmp_path / "data.h5"
    with h5py.File(path, "w") as file:
        voices = file.create_group("training/voice")
        voices.create_group("good").create_dataset("audio", data=row("good")["codes"].T)
        voices["around"] = h5py.SoftLink("/training")
        voices["back"] = voices
        voices["nowhere"] = h5py.SoftLink("/none")
        voices["elsewhere"] = h5py.ExternalLink("/etc/passwd", "/")
        bomb = voices.create_group("bomb")
        bomb.create_dataset("audio", shape=(1 << 40, 2), dtype="i2", chunks=(1 << 10, 2), compression="gzip")
        linked = voices.create_group("linked")
        linked["audio"] = h5py.SoftLink("/none")
        nested = voices.create_group("nested")
        nested.create_dataset("audio", data=row("nested")["codes"].T)
        nested.create_dataset("text", data=np.full((2, 2), 99))
        file.create_dataset("symmap", data="{}")
    found = {one["id"]: one.get("reason") for one in valle_hdf5.read(path, Import(toy))}
    assert found == {"good": None, "bomb": "unreadable", "linked": "unreadable", "nested": "invalid_row"}
    (tmp_path / "cut.h5").write_bytes(path.read_bytes()[:2000])
    with pytest.raises((UsageError, JobError), match=r"cut\.h5"):
        list(valle_hdf5.read(tmp_path / "cut.h5", Import(toy)))


def test_pipes_and_giants_of_a_tree(row, toy, tmp_path: Path) -> None:
    speaker = tmp_path / "voice"
    speaker.mkdir()
    os.mkfifo(speaker / "pipe.qnt.pt")
    with (speaker / "giant.qnt.pt").open("wb") as file:
        file.truncate(1 << 40)
    found = list(valle_tree.read(tmp_path, Import(toy)))
    assert {one["id"]: one["reason"] for one in found} == dict.fromkeys(("pipe", "giant"), "unreadable")


def test_a_pipe_is_no_hdf5_file(toy: TokenIdentity, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe cannot be read as HDF5: it is no regular file"):
        next(valle_hdf5.read(tmp_path / "pipe", Import(toy)))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"sample_rate": "16000"}, "sample_rate is '16000', not a int"),
        ({"codebook_size": 1024.0}, "codebook_size is 1024.0, not a int"),
        ({"hop_length": float("nan")}, "hop_length is nan, not a int"),
        ({"signed": 1}, "signed is 1, not a bool"),
    ],
)
def test_a_description_of_a_codec_with_values_of_another_type(
    toy: TokenIdentity, change: dict[str, object], rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        TokenIdentity.from_json(json.dumps(json.loads(toy.to_json()) | change))
    with pytest.raises(ValueError, match="holds a list, not an object"):
        TokenIdentity.from_json("[1]")
    with pytest.raises(ValueError, match="lacks edition"):
        TokenIdentity.from_json('{"name": "toy"}')


def test_a_dataset_inside_its_source_is_refused(
    run_import: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_import(tmp_path, tmp_path, "hf") == 2
    assert "is inside SOURCE" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def many(tmp_path: Path, row, count: int) -> Path:
    codes = io.BytesIO()
    np.save(codes, row("good")["codes"])
    members = {}
    for at in range(count):
        members[f"{at:05}.json"] = json.dumps({"text": "a" * 2000}).encode()
        members[f"{at:05}.codes.npy"] = codes.getvalue()
    members_of(tmp_path / "train-0.tar", members)
    return tmp_path / "train-0.tar"


def test_a_process_of_its_own_reads_the_same_rows(row, toy, tmp_path: Path) -> None:
    source = many(tmp_path, row, 600)
    here = list(webdataset.read(source, Import(toy)))
    there = list(read_isolated("webdataset", source, Import(toy)))
    assert [one["id"] for one in there] == [one["id"] for one in here]
    assert [one["codes"].tobytes() for one in there] == [one["codes"].tobytes() for one in here]
    with pytest.raises(UsageError, match="is no"):
        list(read_isolated("valle-hdf5", tmp_path, Import(toy)))


def test_a_reader_that_a_file_ends_is_named(row, toy, tmp_path: Path) -> None:
    source = many(tmp_path, row, 3000)
    rows = read_isolated("webdataset", source, Import(toy))
    next(rows)
    (child,) = (one for one in psutil.Process().children() if "isolated_reader" in " ".join(one.cmdline()))
    child.send_signal(11)
    with pytest.raises(
        JobError, match=rf"{source}: .* the rows after \S+ ended \(SIGSEGV\); nothing was imp"
    ):
        list(rows)
