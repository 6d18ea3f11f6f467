"""Files below a local root; `test_object_store` has those of a bucket."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from catalog.command import JobError
from catalog.storage import canonical_uri, open_storage


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/a%20b/", "s3://bucket/a%20b"),
        ("file:///data/a%20b", "/data/a b"),
        ("/data/a%20b/", "/data/a%20b"),
        ("~/data", f"{Path.home()}/data"),
        ("data", f"{Path.cwd()}/data"),
        (Path("data"), f"{Path.cwd()}/data"),
    ],
)
def test_places_have_one_name(given: str | Path, expected: str) -> None:
    assert canonical_uri(given) == expected


def test_a_local_place_whose_name_looks_like_a_uri_is_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = open_storage(f"file://{tmp_path}/s3:/x")
    assert storage.uri == f"{tmp_path}/s3:/x"
    assert storage.listing() == {}
    monkeypatch.chdir(tmp_path)
    assert open_storage("data:v1").uri == f"{tmp_path}/data:v1"


def test_files_come_and_go(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    assert storage.listing() == {}
    storage.write("split=train/a", b"1234")
    storage.write("split=train/a", b"12345")
    storage.write("b", b"")
    assert storage.read("split=train/a") == b"12345"
    with storage.open("split=train/a") as file:
        file.seek(3)
        assert file.read() == b"45"
    os.utime(tmp_path / "b", (1000, 1000.5))
    listing = storage.listing()
    assert {path: stat.size_bytes for path, stat in listing.items()} == {"split=train/a": 5, "b": 0}
    assert listing["b"].modified_s == 1000.5
    assert list(storage.listing("split=train")) == ["split=train/a"]
    assert storage.listing("nowhere") == {}
    assert (storage.exists("b"), storage.exists("split=train"), storage.exists("c")) == (True, False, False)
    storage.move("split=train/a", "_corrupt/split=train/a")
    storage.move("b", "_corrupt/split=train/a")
    assert (list(storage.listing()), storage.read("_corrupt/split=train/a")) == (
        ["_corrupt/split=train/a"],
        b"",
    )
    storage.sync("_corrupt/split=train/a")
    storage.delete("_corrupt/split=train/a")
    storage.delete("_corrupt/split=train/a")
    assert storage.listing() == {}


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    for attempt in (storage.read, storage.open, lambda path: storage.move(path, "target")):
        with pytest.raises(FileNotFoundError):
            attempt("gone")


def test_a_file_that_goes_while_the_folder_is_listed_is_left_out(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    for index in range(9):  # folders list their names in any order
        (tmp_path / f"gone{index}").symlink_to(tmp_path / "nowhere")
        (tmp_path / f"there{index}").write_text("x")
    assert sorted(storage.listing()) == [f"there{index}" for index in range(9)]


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    storage = open_storage(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(
        JobError, match=rf"^{tmp_path}/file/a: cannot write 3 bytes: (Not a directory|File exists)$"
    ):
        storage.write("file/a", b"123")
    with pytest.raises(
        JobError, match=rf"^{tmp_path}/gone: the dataset was removed or moved while this job ran$"
    ):
        open_storage(tmp_path / "gone").write("a", b"")
    assert not (tmp_path / "gone").exists()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    local = open_storage(tmp_path)
    for read in (local.read, local.open):
        with pytest.raises(OSError, match="is not a regular file"):
            read("pipe")
    assert "loop" not in local.listing()
    assert not local.exists("loop")
