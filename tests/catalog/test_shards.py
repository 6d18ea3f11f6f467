from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog.command import JobError
from catalog.identity import Identity
from catalog.schema import SCHEMA
from catalog.shards import check_shard, read_columns, read_shard, run_id_of, without_recordings, write_shard
from catalog.storage import open_storage
from models.identity import TokenIdentity

REPOSITORY = Path(__file__).resolve().parents[2]


def test_one_file_a_split(tmp_path, rows, codec) -> None:
    table = pa.concat_tables([rows(["a", "b"]), rows(["c"], "validation"), rows(["d"], "rejected", "silent")])
    shards = write_shard(table, str(tmp_path), "run_1", codec)
    assert [(shard.split, shard.rows, shard.recordings) for shard in shards] == [
        ("train", 4, 2),
        ("validation", 2, 1),
        ("rejected", 1, 1),
    ]
    assert shards[0].seconds == pytest.approx(0.28)
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {shard.path for shard in shards}
    assert {run_id_of(path) for path in found} == {"run_1"}


def test_files_are_plain_parquet_with_page_checksums(tmp_path, rows, codec) -> None:
    (shard,) = write_shard(rows(["a"]), str(tmp_path), "r", codec)
    file = pq.ParquetFile(tmp_path / shard.path)
    assert file.schema_arrow.equals(SCHEMA)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.read(["codes"])["codes"].to_pylist() == rows(["a"])["codes"].to_pylist()
    # The first page header says whether a checksum follows it: damage to a page must be noticed without our digest.
    data = bytearray((tmp_path / shard.path).read_bytes())
    column = file.metadata.row_group(0).column(SCHEMA.names.index("text"))
    data[
        column.data_page_offset
        + column.total_compressed_size
        - (column.data_page_offset - column.dictionary_page_offset)
        - 1
    ] ^= 1
    with pytest.raises(OSError, match=r"CRC|checksum"):
        pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)


@given(
    codebook_size=st.sampled_from([2, 1024, 32768, 65536]),
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    n_codebooks=st.integers(1, 3),
    data=st.data(),
)
@settings(max_examples=30, deadline=None)
def test_codes_survive(tmp_path_factory, codebook_size, lengths, n_codebooks, data) -> None:
    folder = tmp_path_factory.mktemp("codes")
    identity = TokenIdentity("any", "1", "", 16000, 1, n_codebooks, codebook_size)
    entry = st.integers(0, codebook_size - 1)
    codes = [
        [data.draw(st.lists(entry, min_size=length, max_size=length)) for _ in range(n_codebooks)]
        for length in lengths
    ]
    stored = [[np.array(level, np.uint16).view(np.int16) for level in one] for one in codes]
    names = [str(index) for index in range(len(lengths))]
    table = pa.table(
        {
            "id": names,
            "recording_id": names,
            "codes": pa.array(stored, SCHEMA.field("codes").type),
            "target_length": pa.array(lengths, pa.int32()),
            "split": ["train"] * len(lengths),
        }
    )
    (shard,) = write_shard(table, str(folder), "r", identity)
    problems, read = check_shard(open_storage(folder), shard, Identity(identity, {}))
    assert problems == []
    back = [
        [np.array(level, np.int16).view(np.uint16).tolist() for level in one]
        for one in read["codes"].to_pylist()
    ]
    assert back == codes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop_columns("split"), "the table has no split column"),
        (
            lambda table: table.set_column(table.column_names.index("split"), "split", [["test"] * 2]),
            "split is 'test'",
        ),
        (lambda table: table.append_column("mood", [["gay"] * 2]), r"column 'mood' is not in docs/data\.md"),
        (lambda table: table.drop_columns("recording_id"), "2 of 2 rows have no recording_id"),
        (lambda table: table.drop_columns("codes"), "split train: 2 rows have no codes"),
        (
            lambda table: table.set_column(
                table.column_names.index("target_length"), "target_length", [[3, 3]]
            ),
            "split train: row 1 has 4 frames, target_length says 3",
        ),
        (
            lambda table: table.set_column(
                table.column_names.index("codes"),
                SCHEMA.field("codes"),
                pa.array([[[1] * 3], [[1] * 4]], SCHEMA.field("codes").type),
            ),
            "split train: row 0 has 1 codebooks, the codec has 2",
        ),
        (
            lambda table: table.set_column(
                table.column_names.index("codes"),
                SCHEMA.field("codes"),
                pa.array([[[1] * 3] * 2, [[1] * 4, [1024] * 4]], SCHEMA.field("codes").type),
            ),
            "split train: holds code 1024, the codebook has 1024 entries",
        ),
    ],
)
def test_bad_rows_are_refused(change, message, tmp_path, rows, codec) -> None:
    with pytest.raises(ValueError, match=message):
        write_shard(change(rows(["a"])), str(tmp_path), "r", codec)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_a_rejected_row_needs_a_known_reason(tmp_path, rows, codec) -> None:
    for reason, message in (
        (None, "split rejected: reason None is not in docs/data.md"),
        ("bad_luck", "reason 'bad_luck' is not in docs/data.md"),
    ):
        with pytest.raises(ValueError, match=message):
            write_shard(rows(["a"], "rejected", reason), str(tmp_path), "r", codec)


def test_a_corrupt_byte_is_found_wherever_it_is(tmp_path, rows, codec) -> None:
    (shard,) = write_shard(rows(["a"]), str(tmp_path), "r", codec)
    file, storage = tmp_path / shard.path, open_storage(tmp_path)
    good = file.read_bytes()
    for at in np.linspace(0, len(good) - 1, 60).astype(int):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert "the file has changed" in check_shard(storage, shard, Identity(codec, {}))[0][0]
        with pytest.raises(JobError, match="the file has changed"):
            read_shard(storage, shard)
    file.write_bytes(good[:-1])
    assert check_shard(storage, shard, Identity(codec, {}))[0] == [
        f"{len(good) - 1} bytes, the log says {len(good)}"
    ]
    file.unlink()
    assert check_shard(storage, shard, Identity(codec, {}))[0] == ["the file is missing"]


def test_check_names_what_disagrees_with_the_log(tmp_path, rows, codec) -> None:
    (shard,) = write_shard(rows(["a"]), str(tmp_path), "r", codec)
    storage, other = open_storage(tmp_path), dataclasses.replace(codec, edition="2", n_codebooks=3)
    assert check_shard(storage, dataclasses.replace(shard, rows=5), Identity(codec, {}))[0] == [
        "2 rows, the log says 5"
    ]
    problems, _ = check_shard(storage, dataclasses.replace(shard, sha256=""), Identity(other, {}))
    assert problems[0] == "the log has no sha256 for it (not written by this program)"
    assert '"edition": "1"' in problems[1]
    assert problems[2] == "row 0 has 2 codebooks, the codec has 3"


def test_a_file_without_a_digest_has_its_pages_checked(tmp_path, rows, codec) -> None:
    """Logs of other programs have none: the checksums inside the file are all that finds the fault."""
    (shard,) = write_shard(rows(["a"]), str(tmp_path), "r", codec)
    file = tmp_path / shard.path
    group = pq.ParquetFile(file).metadata.row_group(0)
    texts = next(one for one in map(group.column, range(group.num_columns)) if one.path_in_schema == "text")
    start = texts.dictionary_page_offset or texts.data_page_offset
    data = bytearray(file.read_bytes())
    data[start + texts.total_compressed_size - 1] ^= 1
    file.write_bytes(data)
    problems, found = check_shard(
        open_storage(tmp_path), dataclasses.replace(shard, sha256=""), Identity(codec, {})
    )
    assert found is None
    assert problems[1].startswith("not readable as Parquet: ")
    assert "crc" in problems[1].lower()


def test_some_columns_of_a_file_that_is_not_there(tmp_path, rows, codec) -> None:
    (shard,) = write_shard(rows(["a"]), str(tmp_path), "r", codec)
    (tmp_path / shard.path).unlink()
    with pytest.raises(
        JobError,
        match=rf"^{tmp_path}/{shard.path}: cannot be read: the file is missing; `catalog verify` names all$",
    ):
        read_columns(open_storage(tmp_path), [shard], ["id"])


def test_without_recordings(tmp_path, rows, codec) -> None:
    (shard,) = write_shard(rows(["a", "b"]), str(tmp_path), "r", codec)
    storage = open_storage(tmp_path)
    assert without_recordings(storage, shard, {"c"}, "r", Identity(codec, {})) is shard
    assert without_recordings(storage, shard, {"a", "b"}, "r", Identity(codec, {})) is None
    rest = without_recordings(storage, shard, {"a"}, "r", Identity(codec, {}))
    assert read_shard(storage, rest)["recording_id"].to_pylist() == ["b", "b"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path) -> None:
    code = (
        "import resource, signal, sys, pyarrow as pa\n"
        "from models.identity import TokenIdentity; from catalog.shards import write_shard\n"
        "from catalog.command import JobError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "rows = {'id': ['a'], 'recording_id': ['a'], 'codes': [[[1]]], 'target_length': [1], 'split': ['train']}\n"
        "try: write_shard(pa.table(rows), sys.argv[1], 'r', TokenIdentity('c', '1', '', 16000, 320, 1, 1024))\n"
        "except JobError as error: print(error)"
    )
    output = subprocess.run(
        [sys.executable, "-B", "-c", code, str(tmp_path)],  # -B: bytecode would be cut, too
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output.startswith(f"{tmp_path}/split=train/part-r-")
    assert "File too large" in output
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_other_names_are_not_ours() -> None:
    ours = "split=train/part-r-" + "0" * 32 + ".parquet"
    assert run_id_of(ours) == "r"
    assert run_id_of("split=train/.part-r-" + "0" * 32 + ".parquet." + "1" * 32 + ".tmp") == "r"
    for foreign in (
        "README.md",
        "split=train/notes.txt",
        "split=test" + ours[11:],
        ours[12:],
        "x/" + ours,
        ours + ".bak",
    ):
        assert run_id_of(foreign) is None
