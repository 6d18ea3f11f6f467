"""Files made to end or hold up their readers: each becomes one rejected row that names it, its neighbours stay."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.command import UsageError
from catalog.reasons import Reason
from pipelines.audio.wav import write_wav
from pipelines.prepare import file_stats
from pipelines.sources import uris
from pipelines.sources.filesystems import DamagedError
from pipelines.sources.folder import FolderSource
from pipelines.sources.interface import Recording
from pipelines.sources.members import open_file
from pipelines.sources.open import open_source
from pipelines.sources.reading import Reading, set_reading
from pipelines.sources.transcripts import TextError, read_transcript


@pytest.fixture
def offered(tmp_path: Path) -> Callable[[], list[Recording]]:
    """The recordings of a folder in which a good file lies beside the hostile one."""
    write_wav(tmp_path / "good.wav", np.full(8000, 0.1, np.float32), 16000)
    return lambda: list(open_source(str(tmp_path)).recordings())


def assert_one_is_broken(recordings: list[Recording], name: str, at_most: int = 2) -> None:
    assert "good.wav" in [one.recording_id for one in recordings]
    broken = [one for one in recordings if one.problem is not None]
    assert [one.problem for one in broken] == [Reason.UNREADABLE]
    assert name in str(broken[0].detail)
    assert len(recordings) <= at_most + 1


def arrow_with_offset(path: Path, offset: int) -> None:
    """An Arrow file whose second text ends where `offset` says."""
    table = pa.table({"audio": pa.array([b"a", b"b"], pa.binary()), "text": ["one", "seven"]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    right, wrong = (np.array([0, 3, end], np.int32).tobytes() for end in (8, offset))
    data = path.read_bytes()
    assert data.count(right) == 1
    path.write_bytes(data.replace(right, wrong))


@pytest.mark.parametrize("offset", [2**31 - 1, -5, 1])
def test_an_arrow_text_that_points_elsewhere(
    tmp_path: Path, offered: Callable[[], list[Recording]], offset: int
) -> None:
    """In a process of its own first: following the offset would end this one."""
    arrow_with_offset(tmp_path / "bad.arrow", offset)
    script = (
        f"from pipelines.sources.open import open_source; list(open_source({str(tmp_path)!r}).recordings())"
    )
    root = Path(__file__).resolve().parents[3]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0
    assert_one_is_broken(offered(), "bad.arrow")


@pytest.mark.parametrize("features", ["[]", "null", '{"info": {"features": [1]}}', "[" * 200_000, "{"])
def test_features_that_are_none(
    tmp_path: Path, offered: Callable[[], list[Recording]], features: str
) -> None:
    table = pa.table({"audio": pa.array([b"x"], pa.binary()), "text": ["a"]})
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / "bad.parquet")
    assert_one_is_broken(offered(), "bad.parquet")


def test_class_labels_without_names(tmp_path: Path, offered: Callable[[], list[Recording]]) -> None:
    features = json.dumps({"info": {"features": {"speaker": {"_type": "ClassLabel"}}}})
    table = pa.table({"audio": pa.array([b"x"], pa.binary()), "speaker": [0]})
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / "bad.parquet")
    assert_one_is_broken(offered(), "bad.parquet")


def header(name: str, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header with any twelve bytes as its size."""
    info = bytearray(tarfile.TarInfo(name).tobuf())
    info[124:136], info[156:157] = size, kind
    info[148:156] = b" " * 8
    info[148:156] = f"{sum(info):06o}\0 ".encode()
    return bytes(info)


NEGATIVE = (2**96 - 512).to_bytes(12, "big")
"""-512 in base 256."""


@pytest.mark.parametrize("kind", [b"0", b"5", b"L", b"x"])
def test_a_tar_whose_member_leads_back(
    tmp_path: Path, offered: Callable[[], list[Recording]], kind: bytes
) -> None:
    first = io.BytesIO()
    with tarfile.open(fileobj=first, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.wav"))
    (tmp_path / "bad.tar").write_bytes(first.getvalue()[:512] + header("b.wav", NEGATIVE, kind) + bytes(1024))
    assert_one_is_broken(offered(), "bad.tar")


@pytest.mark.parametrize("key", ["GNU.sparse.size", "GNU.sparse.map", "size"])
@pytest.mark.parametrize("value", ["no number", "-1", "9" * 40])
def test_a_tar_whose_extended_header_lies(
    tmp_path: Path, offered: Callable[[], list[Recording]], key: str, value: str
) -> None:
    with tarfile.open(tmp_path / "bad.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.wav")
        member.pax_headers = {key: value, "GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
        archive.addfile(member)
    found = offered()
    assert "good.wav" in [one.recording_id for one in found]
    assert len(found) <= 2


def test_a_tar_of_a_thousand_chained_headers(tmp_path: Path, offered: Callable[[], list[Recording]]) -> None:
    chained = header("long", b"00000000000\0", b"L") * 3000
    (tmp_path / "bad.tar").write_bytes(chained + bytes(1024))
    assert_one_is_broken(offered(), "bad.tar")


def test_a_tar_with_a_name_of_a_terabyte(tmp_path: Path, offered: Callable[[], list[Recording]]) -> None:
    huge = (2**95 + 2**40).to_bytes(12, "big")
    (tmp_path / "bad.tar").write_bytes(header("long", huge, b"L") + bytes(1024))
    found = offered()
    assert "good.wav" in [one.recording_id for one in found]
    assert len(found) <= 2


@pytest.mark.parametrize(
    "line",
    [
        '{"audio_filepath": "a\\u0000b.wav"}',
        '{"audio_filepath": "\\ud800.wav"}',
        '{"recording": {"sources": [{"type": "file", "source": "a.wav"}]}, "channel": [{}]}',
        '{"recording": {"sources": [{"type": "file", "source": "a.wav", "channels": 3}]}, "channel": 0}',
        '{"recording": {"sources": [{"type": "file", "source": "a.wav"}]}, "supervisions": "abc"}',
        '{"audio_filepath": "a.wav", "offset": 1e300, "duration": 1}',
        '{"audio_filepath": "a.wav", "offset": 1, "duration": 1e300}',
        '{"audio_filepath": "a.wav", "text": "' + "x" * (16 << 20) + '"}',
    ],
    ids=["nul", "half", "channel", "channels", "supervisions", "offset", "duration", "long"],
)
@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
def test_a_hostile_line_of_a_manifest(tmp_path: Path, line: str, ending: str) -> None:
    path = tmp_path / f"m{ending}"
    data = f'{line}\n{{"audio_filepath": "good.wav", "text": "one"}}\n'.encode()
    path.write_bytes(gzip.compress(data, 1) if ending.endswith("gz") else data)
    bad, good = open_source(str(path)).recordings()
    assert bad.problem is Reason.INVALID_ROW
    assert str(bad.detail).startswith("line 1 ")
    assert (good.recording_id, good.problem) == ("good.wav", None)


@pytest.mark.parametrize(
    "uri", ["foo://a/b.wav", "http://[::1/b.wav", f"file:///{'x' * 5000}.wav", "ssh://h/a.wav"]
)
def test_a_file_that_no_storage_has_is_no_trouble_of_the_storage(tmp_path: Path, uri: str) -> None:
    """Only a scheme whose package is absent is: its files may come."""
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": uri, "text": "one"}))
    recordings = list(open_source(str(tmp_path / "m.jsonl")).recordings())
    with ThreadPoolExecutor(1) as pool:
        assert file_stats.sized(recordings, pool) == recordings
    with pytest.raises(OSError, match=r"URI|scheme|cannot be read|another package|too long") as refused:
        open_file(recordings[0].uri)
    assert isinstance(refused.value, DamagedError) == (not uri.startswith("ssh"))


def test_folders_and_links_that_cannot_be_followed_cost_themselves_alone(
    tmp_path: Path, offered: Callable[[], list[Recording]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "closed").mkdir()
    scan = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = {one.recording_id: one.problem for one in offered()}
    assert found == {
        "closed": Reason.UNAVAILABLE, "gone.wav": None, "good.wav": None, "loop.wav": None
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["parquet", "arrow", "views"])
def test_texts_without_end(tmp_path: Path, offered: Callable[[], list[Recording]], kind: str) -> None:
    """A few kilobytes that stand for gigabytes: too long texts are left out, equal ones are one object."""
    words = pa.array(["x" * (2 << 20), "y" * 100_000])
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 2000, pa.int32()), words)
    if kind == "views":
        views = b"".join(
            np.array([len(word), 0, 0, at], np.int32).tobytes()[:4] + word[:4].encode()
            + np.array([0, at], np.int32).tobytes()
            for word, at in ((words[0].as_py(), 0), (words[1].as_py(), 2 << 20))
        )  # fmt: skip
        data = "".join(words.to_pylist()).encode()
        buffers = [None, pa.py_buffer(views * 2000), pa.py_buffer(data)]
        texts = pa.Array.from_buffers(pa.string_view(), 4000, buffers)
    table = pa.table({"audio": pa.array([b"x"] * 4000, pa.binary()), "text": texts})
    if kind == "parquet":
        pq.write_table(table, tmp_path / "bomb.parquet")
        assert (tmp_path / "bomb.parquet").stat().st_size < 200_000
    else:
        with (
            pa.OSFile(str(tmp_path / "bomb.arrow"), "wb") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
    before, seen = pa.total_allocated_bytes(), []
    for one in offered():
        seen.append(one)
        assert pa.total_allocated_bytes() - before < 100 << 20
    assert [one.problem for one in seen[:4000]] == [Reason.TOO_LONG, None] * 2000
    assert "text has more than 1 MiB" in str(seen[0].detail)
    assert kind == "views" or seen[1].text is seen[3].text


def test_links_are_followed_or_rejected_as_told(tmp_path: Path) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside, inside):
        folder.mkdir()
    for name in ("a.wav", "b.wav"):
        write_wav(outside / name, np.full(8000, 0.1, np.float32), 16000)
    (outside / "secret").write_text("secret")
    (inside / "a.wav").symlink_to(outside / "a.wav")
    (inside / "b.wav").write_bytes((outside / "b.wav").read_bytes())
    (inside / "b.txt").symlink_to(outside / "secret")
    (inside / "sub").symlink_to(outside, target_is_directory=True)
    source = open_source(str(inside))
    assert isinstance(source, FolderSource)
    found = {one.recording_id: one for one in replace(source, links=False).recordings()}
    assert {name for name, one in found.items() if one.problem is None} == {"b.wav"}
    assert {name for name, one in found.items() if "source.links" in str(one.detail)} == {"a.wav", "sub"}
    assert found["b.wav"].text_uri is None
    followed = [one for one in source.recordings() if one.problem is None]
    assert {"a.wav", "b.wav", "sub/a.wav"} <= {one.recording_id for one in followed}
    assert next(one for one in followed if one.recording_id == "b.wav").text_uri


def test_remote_files_are_read_or_not_as_told(tmp_path: Path) -> None:
    """The path of a Parquet row, too, and the transcript."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"audio": pa.array([{"bytes": None, "path": "http://127.0.0.1:9/a.wav"}], kind)})
    pq.write_table(table, tmp_path / "d.parquet")
    (recording,) = open_source(str(tmp_path / "d.parquet")).recordings()
    set_reading(Reading(remote=False))
    try:
        for uri in (recording.uri, "s3://bucket/a.wav", "http://127.0.0.1:9/a.wav"):
            with pytest.raises(DamagedError, match=r"source\.remote forbids"):
                open_file(uri)
        with pytest.raises(TextError, match=r"source\.remote forbids"):
            read_transcript("http://127.0.0.1:9/a.txt")
    finally:
        set_reading(Reading())


@pytest.fixture
def small_limits() -> Iterator[None]:
    set_reading(Reading(text_bytes=100, line_chars=300))
    yield
    set_reading(Reading())


@pytest.mark.usefixtures("small_limits")
def test_the_limits_of_texts_and_lines_are_settings(tmp_path: Path) -> None:
    long, good = "x" * 101, "seven"
    (tmp_path / "a.txt").write_text(long)
    with pytest.raises(TextError, match="more than 100 bytes"):
        read_transcript(uris.to_uri(str(tmp_path / "a.txt")))
    table = pa.table({"audio": pa.array([b"a", b"b"], pa.binary()), "text": [long, good]})
    pq.write_table(table, tmp_path / "d.parquet")
    found = list(open_source(str(tmp_path / "d.parquet")).recordings())
    assert [one.problem for one in found] == [Reason.TOO_LONG, None]
    lines = [json.dumps({"audio_filepath": "b.wav", "text": "y" * size}) for size in (300, 10)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    found = list(open_source(str(tmp_path / "m.jsonl")).recordings())
    assert [one.problem for one in found] == [Reason.INVALID_ROW, None]
    (tmp_path / "t.csv").write_text(f"file,text\nb.wav,{'y' * 300}\n")
    with pytest.raises(UsageError, match="line 2 is longer than"):
        list(open_source(str(tmp_path / "t.csv")).recordings())
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name, data in (("k.wav", b"RIFF"), ("k.json", json.dumps({"text": "y" * 300}).encode())):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    details = [str(one.detail) for one in open_source(str(tmp_path / "s.tar")).recordings()]
    assert any("too many for a description" in one for one in details), details
