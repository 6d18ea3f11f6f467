"""Rows of files: sorted by id, equal in memory and mapped, made once for all processes, refused when malformed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import store as store_module
from trainers import store_build
from trainers.store import Store

REPOSITORY = Path(__file__).parents[2]
CODES = pa.list_(pa.list_(pa.int16()))
FURTHER = {
    "speaker": pa.string(),
    "phonemes": pa.list_(pa.string()),
    "semantic_codes": pa.list_(pa.int32()),
    "prompt_codes": pa.list_(pa.list_(pa.int16())),
    "latents": pa.binary(),
}


def write(path: Path, codes: list[Any], **columns: Any) -> Path:
    table = {"text": ["x"] * len(codes), "codes": pa.array(codes, CODES), **columns}
    pq.write_table(pa.table(table), path)
    return path


def write_all_columns(path: Path, rows: int, first: int = 0) -> Path:
    """Rows with every kind of column, each null here and there."""
    rng = np.random.default_rng(first)
    values: dict[str, list[Any]] = {
        "speaker": [f"s{row % 3}" for row in range(rows)],
        "phonemes": [["a", "ʃ", ""][: row % 4] for row in range(rows)],
        "semantic_codes": [rng.integers(0, 9000, row % 5).tolist() for row in range(rows)],
        "prompt_codes": [rng.integers(0, 9, (2, row % 3)).tolist() for row in range(rows)],
        "latents": [rng.bytes(row % 7) for row in range(rows)],
    }
    for offset, column in enumerate(values.values()):
        column[offset::7] = [None] * len(column[offset::7])
    columns = {name: pa.array(column, FURTHER[name]) for name, column in values.items()}
    ids = [f"u{(row * 31) % rows + first:04d}" for row in range(rows)]
    codes = [rng.integers(-9, 9, (2, row % 6)).tolist() for row in range(rows)]
    return write(path, codes, id=ids, **columns)


def contents(store: Store) -> list[Any]:
    return [
        (
            store.id(row),
            store.codes(row).tolist(),
            store.text(row),
            store.text(row, "speaker"),
            store.strings(row, "phonemes"),
            store.numbers(row, "semantic_codes").tolist(),
            store.numbers(row, "prompt_codes").tolist(),
            store.data(row, "latents"),
        )
        for row in range(len(store))
    ]


@pytest.fixture
def mapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing fits into memory."""
    monkeypatch.setattr(store_module, "MEMORY_LIMIT_BYTES", 0)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(texts, st.none() | texts, st.integers(0, 3)), min_size=1, max_size=12), st.data())
def test_order_and_digest_are_those_of_sorted_python_strings(
    rows: list[tuple[str, str | None, int]], data: st.DataObject
) -> None:
    """Also where code points and UTF-16 units order differently, for equal ids, and over many small batches."""
    block = data.draw(st.integers(1, 5))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_build, "_BATCH_ROWS", data.draw(st.integers(1, 4)))
        patch.setattr(store_build, "_BLOCK", block)
        cut = data.draw(st.integers(0, len(rows)))
        files = []
        for number, part in enumerate((rows[:cut], rows[cut:])):
            ids, words = [row[0] for row in part], pa.array([row[1] for row in part], pa.string())
            codes = [[[number] * row[2]] for row in part]
            files.append(write(Path(folder) / f"{number}.parquet", codes, id=pa.array(ids, pa.string())))
            table = pq.read_table(files[-1]).drop_columns(["text"]).append_column("text", words)
            pq.write_table(table, files[-1])
        store = Store.read(files, signed=False)
        ordered = sorted(rows, key=lambda row: row[0])
        assert [store.id(row) for row in range(len(store))] == [row[0] for row in ordered]
        lists = [[row[0] for row in ordered], [row[1] or "" for row in ordered], [row[2] for row in ordered]]
    described = json.dumps(lists, ensure_ascii=False)
    assert store.digest == hashlib.sha256(described.encode()).hexdigest()
    assert store.lengths.tolist() == lists[2]
    assert store.parts.text_bytes == sum(max(len(text.encode()), 1) for text in lists[1])  # type: ignore[attr-defined]


def test_rows_without_ids_are_named_after_their_place(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.parquet", [[[1]], [[2]]]) for name in "ab"]
    store = Store.read(files, signed=False)
    assert [store.id(row) for row in range(4)] == ["a.parquet:0", "a.parquet:1", "b.parquet:2", "b.parquet:3"]


def test_integer_ids_sort_as_numbers(tmp_path: Path) -> None:
    store = Store.read([write(tmp_path / "a.parquet", [[[1]], [[2]]], id=[10, 9])], signed=False)
    assert [store.id(row) for row in range(2)] == ["9", "10"]
    assert store.digest == hashlib.sha256(b'[[9, 10], ["x", "x"], [1, 1]]').hexdigest()


@pytest.mark.usefixtures("mapped")
def test_mapped_rows_equal_those_in_memory(tmp_path: Path) -> None:
    files = [write_all_columns(tmp_path / f"{first}.parquet", 40, first) for first in (100, 0)]
    plain = Store.read(files, signed=True, columns=tuple(FURTHER))
    for _ in range(2):
        found = Store.read(files, signed=True, columns=tuple(FURTHER), cache=tmp_path / "cache")
        assert found.digest == plain.digest
        assert contents(found) == contents(plain)
        assert found.code_range == plain.code_range == (-9, 8)
        assert found.frames_per_byte() == plain.frames_per_byte() == float(plain.lengths.sum()) / 80
        for column in FURTHER:
            assert np.array_equal(found.present(column), plain.present(column))
        assert np.array_equal(found.groups("speaker"), plain.groups("speaker"))
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_nulls_and_groups(tmp_path: Path) -> None:
    speakers = pa.array(["x", None, "y", "x"]).dictionary_encode()
    file = write(tmp_path / "a.parquet", [[[1]]] * 4, id=["d", "c", "b", "a"], speaker=speakers)
    store = Store.read([file], signed=False, columns=["speaker"])
    assert store.present("speaker").tolist() == [True, True, False, True]
    groups = store.groups("speaker").tolist()
    assert groups[0] == groups[3] != groups[1]
    assert groups[2] == -1
    assert [store.text(row, "speaker") for row in range(4)] == ["x", "y", "", "x"]


@pytest.mark.usefixtures("mapped")
def test_rows_of_no_frames_can_be_mapped(tmp_path: Path) -> None:
    store = Store.read([write(tmp_path / "a.parquet", [[[]]])], signed=False, cache=tmp_path / "cache")
    assert (store.lengths.tolist(), store.code_range, store.codes(0).shape) == ([0], (0, 0), (1, 0))


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("name", ["codes.int16", "columns.arrow", "places.npy", "store.json"])
@pytest.mark.parametrize("damage", [shorten, Path.unlink])
@pytest.mark.usefixtures("mapped")
def test_a_damaged_cache_is_made_again(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    file = write_all_columns(tmp_path / "a.parquet", 20)
    whole = Store.read([file], signed=True, cache=tmp_path / "cache")
    (damaged,) = (tmp_path / "cache").glob(f"*/{name}")
    damage(damaged)
    again = Store.read([file], signed=True, cache=tmp_path / "cache")
    assert again.digest == whole.digest
    assert [again.codes(row).tolist() for row in range(20)] == [
        whole.codes(row).tolist() for row in range(20)
    ]


@pytest.mark.usefixtures("mapped")
def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1, 2]]])
    Store.read([file], signed=False, cache=tmp_path / "cache")
    write(file, [[[3, 4]]])
    os.utime(file, ns=(1, 1))
    assert Store.read([file], signed=False, cache=tmp_path / "cache").codes(0).tolist() == [[3, 4]]


@pytest.mark.usefixtures("mapped")
def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [[[1, 2]]])
    Store.read([file], signed=False, cache=tmp_path / "cache")
    (folder,) = (path for path in (tmp_path / "cache").iterdir() if path.is_dir())
    folder.rename(folder.with_name(f".{folder.name}.0123.tmp"))
    Store.read([file], signed=False, cache=tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [folder]


READ = """
import json, sys
from pathlib import Path
from trainers import store
store.MEMORY_LIMIT_BYTES = 0
file, cache = map(Path, sys.argv[1:])
rows = store.Store.read([file], signed=True, cache=cache)
inode = next(cache.glob("*/codes.int16")).stat().st_ino
print(json.dumps([rows.digest, inode, [rows.codes(row).tolist() for row in range(len(rows))]]))
"""


def test_processes_share_one_cache(tmp_path: Path) -> None:
    file = write_all_columns(tmp_path / "a.parquet", 30)
    plain = Store.read([file], signed=True)
    command = [sys.executable, "-c", READ, str(file), str(tmp_path / "cache")]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) for _ in range(2)
    ]
    found = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    codes = [plain.codes(row).tolist() for row in range(30)]
    assert [[digest, rows] for digest, _, rows in found] == [[plain.digest, codes]] * 2
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize(
    ("codes", "columns", "message"),
    [
        ([[[1, 2], [3]]], {}, "must be a rectangle"),
        ([[[1, 2]], [[1, 2], [3, 4]]], {}, r"rows of \[1, 2\] codebooks"),
        ([], {}, "hold no row"),
        ([[[1]]], {"id": pa.array([None], pa.string())}, "1 rows have no id"),
        ([[[1]]], {"id": [b"a"]}, "id is binary: must be a string"),
        ([[[1]]], {"text": [1]}, "text is int64: must be a string"),
    ],
)
def test_malformed_rows_are_refused(
    tmp_path: Path, codes: list[Any], columns: dict[str, Any], message: str
) -> None:
    file = write(tmp_path / "a.parquet", codes, **columns)
    with pytest.raises(ValueError, match=message):
        Store.read([file], signed=False)


def test_a_column_that_some_files_lack_is_null_there(tmp_path: Path) -> None:
    """Types are those of the first file that has the column; other files' are converted."""
    absent = write(tmp_path / "a.parquet", [[[1]]], id=["a"])
    unknown = write(tmp_path / "b.parquet", [[[1]]], id=["b"], semantic_codes=pa.nulls(1))
    known, wider = (
        write(
            tmp_path / f"{name}.parquet",
            [[[1]]],
            id=[name],
            semantic_codes=pa.array([[7, 8]], pa.list_(kind)),
        )
        for name, kind in (("c", pa.int32()), ("d", pa.int64()))
    )
    files = [absent, unknown, known, wider]
    store = Store.read(files, signed=False, columns=["semantic_codes"], nullable=["language"])
    assert store.present("semantic_codes").tolist() == [False, False, True, True]
    assert [store.numbers(row, "semantic_codes").tolist() for row in range(4)] == [[], [], [7, 8], [7, 8]]
    assert [store.text(row, "language") for row in range(4)] == [""] * 4
    odd = write(tmp_path / "e.parquet", [[[1]]], id=["e"], semantic_codes=["x"])
    with pytest.raises(
        ValueError, match=r"e\.parquet: semantic_codes is string, but list<.*int32> in the files"
    ):
        Store.read([known, odd], signed=False, columns=["semantic_codes"])
    with pytest.raises(
        ValueError, match=r"a\.parquet has no column speaker, .* reads, nor have the 3 others"
    ):
        Store.read(files, signed=False, columns=["speaker"])


def test_files_of_other_types_are_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.parquet", [[[1]]], id=[name]) for name in ("a", 1)]
    with pytest.raises(ValueError, match=r"1\.parquet: id is int64, but large_string in the files before"):
        Store.read(files, signed=False)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"]}), path)
    with pytest.raises(ValueError, match=r"a\.parquet has no column codes"):
        Store.read([path], signed=False)
    with pytest.raises(ValueError, match=r"a\.parquet has no column speaker, which this training reads"):
        Store.read([write(path, [[[1]]])], signed=False, columns=["speaker"])
