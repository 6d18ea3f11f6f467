"""Recordings of folders and tables: which files, under which ids, in which order; refusals of bad tables."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from catalog.command import UsageError
from pipelines.sources.interface import SCHEMA, Recording, to_table
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source


def offered(location: Path) -> list[Recording]:
    return list(open_source(str(location)).recordings())


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_a_folder_offers_every_file_that_may_be_audio(tmp_path: Path) -> None:
    touch(tmp_path, "b.wav", "a/no_extension", "a/c.exotic", ".hidden.wav", ".git/x.wav", "notes.md", "b.txt")
    touch(tmp_path, "t.TextGrid", "t.json", "t.jsonl", "t.lab", "t.tsv", "other.csv")
    found = offered(tmp_path)
    assert [one.recording_id for one in found] == ["a/c.exotic", "a/no_extension", "b.wav"]
    assert [one.text_source for one in found] == [None, None, "sidecar"]
    assert found[2].text_uri == (tmp_path / "b.txt").as_uri()
    assert {one.size_bytes for one in found} == {1}


def test_ids_are_those_of_the_place_within_the_source(tmp_path: Path) -> None:
    touch(tmp_path / "one", "x/ä b.wav", "y.wav")
    shutil.copytree(tmp_path / "one", tmp_path / "elsewhere")
    ids = [one.recording_id for one in offered(tmp_path / "one")]
    assert ids == ["x/ä b.wav", "y.wav"]
    assert ids == [one.recording_id for one in offered(tmp_path / "elsewhere")]


def test_a_name_that_is_not_utf8_can_be_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    path.write_bytes(b"x")
    (found,) = offered(tmp_path)
    assert found.recording_id == "caf\\xe9.wav"
    assert to_table([found]).schema == SCHEMA
    with open_file(found.uri) as file:
        assert file.read() == b"x"


def test_a_table_in_a_folder_gives_texts_and_names_missing_files(tmp_path: Path) -> None:
    touch(tmp_path, "sub/a.wav", "sub/b.wav", "extra.wav")
    (tmp_path / "metadata.csv").write_text(
        'file,text,speaker,language,split\nsub/a.wav,"one, two",anna,en,test\ngone.wav,x,,,\nsub/b.wav,,,,\n'
    )
    found = {one.recording_id: one for one in offered(tmp_path)}
    assert list(found) == ["sub/a.wav", "gone.wav", "sub/b.wav", "extra.wav"]
    first = found["sub/a.wav"]
    assert (first.text, first.speaker, first.language, first.split) == (
        "one, two",
        "anna",
        "en",
        "validation",
    )
    assert found["gone.wav"].problem is None  # found out when it is decoded
    assert found["sub/b.wav"].text is None
    assert found["extra.wav"].text is None
    assert [one.recording_id for one in offered(tmp_path / "metadata.csv")] == list(found)[:3]


@pytest.mark.parametrize("header", ["", "id|text|normalised text\n"])
def test_ljspeech_with_and_without_header(tmp_path: Path, header: str) -> None:
    touch(tmp_path, "wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav")
    rows = 'LJ001-0001|In 1455|In fourteen\nLJ001-0002|said "no|said "no\n' if not header else ""
    rows = rows or "LJ001-0001|In 1455|In fourteen\nLJ001-0002|b|said\n"
    (tmp_path / "metadata.csv").write_text(header + rows)
    for location in (tmp_path, tmp_path / "metadata.csv"):
        found = offered(location)
        assert [one.recording_id for one in found] == ["wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav"]
        assert found[0].text == "In fourteen"
        assert found[1].text == ("said" if header else 'said "no')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,words\na,b\n", "line 1 has no file column (it is 'name,words'); name it one of file"),
        (b"file,text\n,hello\n", "line 2 names no file"),
        (b'file,text\na.wav,"open\n', "line 2 is not valid CSV"),
        (b"file,text\na.wav,x\nb.wav,caf\xe9\n", "line 3 is not UTF-8; save the table as UTF-8"),
        (b"", "line 1 has no file column"),
    ],
)
def test_a_bad_table_is_refused_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    table = tmp_path / "metadata.csv"
    table.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        offered(table)
    assert str(caught.value).startswith(f"{table}: ")
    assert message in str(caught.value)


def test_a_source_must_exist_and_be_a_folder_or_table(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"does not exist; give a folder, metadata\.csv, manifest\.jsonl"):
        open_source(str(tmp_path / "absent"))
    touch(tmp_path, "a.wav", "b.tar.gz")
    with pytest.raises(UsageError, match=r"a\.wav' is not a source of recordings; give a folder"):
        open_source(str(tmp_path / "a.wav"))
    with pytest.raises(UsageError, match=r"b\.tar\.gz' is not a source of recordings; unpack it"):
        open_source(str(tmp_path / "b.tar.gz"))


def test_shared_corpora_are_listed_whole(shared_data: Path) -> None:
    assert len(offered(shared_data / "ljspeech")) == 32
    kathleen = offered(shared_data / "kathleen_en")
    assert len(kathleen) == 550
    assert all(one.text and one.problem is None for one in kathleen)
