"""Files made to end or hold up their readers: each becomes one rejected row that names it, its neighbours stay."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from catalog.reasons import Reason
from pipelines.audio.wav import write_wav
from pipelines.sources.interface import Recording
from pipelines.sources.open import open_source


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
