"""A further column of tokens or latents: declared, stated by every file, filled commit by commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st

from catalog.appending import Appender
from catalog.columns import declare, fill, lacking
from catalog.command import JobError
from catalog.creation import create, restart
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.log import add_action
from catalog.schema import SCHEMA, Shard
from catalog.shards import write_shard
from catalog.token_columns import pack_latents, unpack_latents
from catalog.upkeep import compact, verify
from models.identity import TokenIdentity

LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=4)
TOKENS = TokenIdentity("semantic", "2", "22ee", 16000, 640, 1, 50)


def latents_of(rows: pa.Table | Shard, frames: int | None = None) -> pa.Array:
    """A value per row, as long as its codes."""
    lengths = rows["target_length"].to_pylist()
    values = [
        None if length is None else pack_latents(np.full((frames or length, 4), row / 8, np.float32))
        for row, length in enumerate(lengths)
    ]
    return pa.array(values, pa.binary())


@pytest.fixture
def declared(appender: Appender, append) -> Dataset:
    """Two files of accepted rows, one of rejected ones, and a column of latents that no file has yet."""
    append(["a"])
    append(["b"], "validation")
    append(["x"], "rejected", "silent")
    return declare(appender.dataset, "latents", LATENTS)


def filled(dataset: Dataset) -> Dataset:
    head = Head(dataset)
    for shard in lacking(head.dataset, "latents"):
        rows = head.dataset.read(SCHEMA.names, shard.split)
        assert fill(head, shard, {"latents": latents_of(rows)}, "embed1", "embed")
    return head.dataset


def test_declaring_sets_the_property_and_then_the_schema(declared: Dataset) -> None:
    assert declared.identity.columns == {"latents": LATENTS}
    assert "latents" in {field.name for field in DeltaTable(declared.uri).schema().fields}
    assert [shard.split for shard in lacking(declared, "latents")] == ["train", "validation"]
    assert verify(declared) == []
    again = declare(declared, "latents", LATENTS)
    assert again.version == declared.version, "declaring it again changes nothing"
    for weights, said in (("0123456789abcdef", "0123456789ab"), ("", "none")):
        other = dataclasses.replace(LATENTS, edition="2", weights_sha256=weights)
        with pytest.raises(
            JobError,
            match=rf"latents is made by encoder@1 \(weights 11ee\), not by encoder@2 \(weights {said}\)$",
        ):
            declare(declared, "latents", other)
    both = declare(declared, "semantic_codes", TOKENS)
    assert both.identity.columns == {"latents": LATENTS, "semantic_codes": TOKENS}


def test_an_older_table_gets_the_schema_after_the_property(rows, codec, tmp_path) -> None:
    reduced = pa.schema([*(field for field in SCHEMA if field.name != "latents"), ("split", pa.string())])
    made = create(tmp_path / "data", codec, {})
    DeltaTable.create(
        made.uri,
        reduced,
        mode="overwrite",
        partition_by=["split"],
        configuration=made.identity.to_configuration(),
        raise_if_key_not_exists=False,
    )
    declared = declare(Dataset.open(made.uri), "latents", LATENTS)
    assert declared.version == 3, "the property, then the schema"
    assert Dataset.open(made.uri, 2).identity.columns == {"latents": LATENTS}
    assert "latents" in {field.name for field in DeltaTable(made.uri).schema().fields}


def test_filling_rewrites_file_by_file(declared: Dataset) -> None:
    head = Head(declared)
    first, second = lacking(declared, "latents")
    rows = declared.read(SCHEMA.names, first.split)
    assert fill(head, first, {"latents": latents_of(rows)}, "embed1", "embed")
    assert lacking(head.dataset, "latents") == [second]
    assert verify(head.dataset) == [], "a dataset on the way is sound"
    found = filled(head.dataset)
    assert lacking(found, "latents") == []
    assert verify(found) == []
    assert found.totals() == declared.totals()
    table = found.read(["id", "latents"], "train")
    np.testing.assert_array_equal(unpack_latents(table["latents"][1].as_py(), 4), np.full((4, 4), 1 / 8))
    (uri,) = found.file_uris("train")
    assert (
        pq.read_schema(uri).metadata[b"speechmill.columns"].decode()
        == DeltaTable(found.uri).metadata().configuration["speechmill.columns"]
    )


def test_appended_files_must_state_the_column(
    declared: Dataset, rows: Callable[..., pa.Table], codec
) -> None:
    table = rows(["c"])
    with pytest.raises(ValueError, match="column latents holds values, but nothing says what made them"):
        write_shard(table.append_column("latents", latents_of(table)), declared.uri, "r", codec)
    appender = Appender(declared)
    appender.committed()
    offered = {
        r"has no latents; the dataset's is made by encoder@1 \(": {},
        r"latents is made by another than the dataset's encoder@1": {
            "latents": dataclasses.replace(LATENTS, edition="2")
        },
        r"has semantic_codes, which the dataset does not have": {
            "latents": LATENTS,
            "semantic_codes": TOKENS,
        },
    }
    for why, columns in offered.items():
        with pytest.raises(JobError, match=why):
            appender.append(write_shard(table, declared.uri, "r", codec, columns))
    with_latents = table.append_column("latents", latents_of(table))
    appender.append(write_shard(with_latents, declared.uri, "r", codec, {"latents": LATENTS}))
    assert verify(appender.dataset) == []
    with pytest.raises(
        JobError, match=r"made otherwise: columns.latents is 'encoder@1 \(\w{12}\)', this job has None"
    ):
        create(declared.uri, codec, declared.settings)


def test_a_running_job_is_refused(appender: Appender, append) -> None:
    append(["a"])
    declare(appender.dataset, "latents", LATENTS)
    with pytest.raises(
        JobError, match=r"changed while this job ran: columns\.latents is None, this job has 'encoder@1"
    ):
        append(["b"])


def test_files_keep_their_columns_when_they_are_rewritten(declared: Dataset, rows, codec) -> None:
    half = Head(declared)
    first, _ = lacking(declared, "latents")
    assert fill(half, first, {"latents": latents_of(declared.read(SCHEMA.names, "train"))}, "embed1", "embed")
    table = rows(["c"])
    appender = Appender(half.dataset)
    appender.committed()
    shards = write_shard(
        table.append_column("latents", latents_of(table)), declared.uri, "r", codec, {"latents": LATENTS}
    )
    appender.append(shards, replace=True)
    before = appender.dataset.read(["id", "latents"], "train").to_pylist()
    compact(appender.dataset)
    newest = Dataset.open(declared.uri)
    assert len(newest.shards("train")) == 1
    assert newest.read(["id", "latents"], "train").to_pylist() == before
    again = Appender(newest)
    again.committed()
    again.append(
        write_shard(
            table.append_column("latents", latents_of(table)), declared.uri, "r2", codec, {"latents": LATENTS}
        ),
        replace=True,
    )
    assert {
        row["id"]: row["latents"] for row in again.dataset.read(["id", "latents"], "train").to_pylist()
    } == {row["id"]: row["latents"] for row in before}
    assert verify(again.dataset) == []


def test_files_that_are_half_way_are_not_merged(declared: Dataset, append, appender: Appender) -> None:
    head = Head(declared)
    shard = lacking(declared, "latents")[0]
    assert fill(head, shard, {"latents": latents_of(declared.read(SCHEMA.names, "train"))}, "embed1", "embed")
    files = len(head.dataset.files)
    assert compact(head.dataset).files_after == files


def test_filling_gives_way_to_a_job_that_took_the_file(declared: Dataset) -> None:
    shard = lacking(declared, "latents")[0]
    stale = Head(declared)
    other = Head(declared)
    assert other.commit([], [], [shard], "repair")
    rows = declared.read(SCHEMA.names, "train")
    assert not fill(stale, shard, {"latents": latents_of(rows)}, "embed1", "embed")
    assert shard.path not in stale.files


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda rows: latents_of(rows)[:1], "1 values of latents for 2 rows"),
        (lambda rows: latents_of(rows, frames=9), "row 0: latents: encoder has 9 frames beside 3 of toy"),
        (lambda rows: pa.array([b"123", None], pa.binary()), "no whole frames of 4 channels"),
    ],
)
def test_values_that_break_a_rule_are_refused(declared: Dataset, values, message: str) -> None:
    shard = lacking(declared, "latents")[0]
    with pytest.raises(ValueError, match=message):
        fill(Head(declared), shard, {"latents": values(declared.read(SCHEMA.names, "train"))}, "r", "embed")


def test_a_column_is_declared_before_it_is_filled(appender: Appender, append) -> None:
    (shard,) = append(["a"])
    values = latents_of(appender.dataset.read(SCHEMA.names))
    with pytest.raises(JobError, match=f"^{appender.uri}: has no column latents; declare it first"):
        fill(Head(appender.dataset), shard, {"latents": values}, "r", "embed")
    assert Dataset.open(appender.uri).files == (shard,)


def test_tokens_are_checked_against_their_codebook(rows, codec, tmp_path) -> None:
    made = declare(create(tmp_path / "data", codec, {}), "semantic_codes", TOKENS)
    table = rows(["a"])

    def write(tokens: list[list[int]]) -> list[Shard]:
        column = pa.array(tokens, pa.list_(pa.int32()))
        return write_shard(
            table.append_column("semantic_codes", column), made.uri, "r", codec, {"semantic_codes": TOKENS}
        )

    for bad, value in (([[0, 50], [1, 2]], 50), ([[0, -1], [1, 2]], -1)):
        with pytest.raises(ValueError, match=f"semantic_codes holds {value}, the codebook has 50 entries"):
            write(bad)
    appender = Appender(made)
    appender.append(write([[0, 49], [1, 2]]))
    assert verify(appender.dataset) == []


@pytest.mark.parametrize(
    ("column", "identity", "message"),
    [
        ("text", TOKENS, "column is 'text', must be one of semantic_codes, latents"),
        ("semantic_codes", LATENTS, "semantic_codes cannot hold the latents of 4 channels of encoder@1"),
        ("latents", TOKENS, "latents cannot hold the tokens of semantic@2"),
        (
            "semantic_codes",
            dataclasses.replace(TOKENS, n_codebooks=2),
            "holds one codebook, semantic@2 has 2",
        ),
    ],
)
def test_a_column_holds_one_kind(
    appender: Appender, column: str, identity: TokenIdentity, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        declare(appender.dataset, column, identity)


def test_starting_over_leaves_the_columns_behind(declared: Dataset, codec) -> None:
    made = restart(declared.uri, codec, declared.settings)
    assert (made.identity.columns, made.files) == ({}, ())
    assert "speechmill.columns" not in DeltaTable(made.uri).metadata().configuration


def test_without_columns_log_and_files_are_as_before(appender: Appender, append) -> None:
    (shard,) = append(["a"])
    assert '"columns"' not in add_action(shard, carried=False, data_change=True).stats
    assert set(pq.read_schema(appender.dataset.file_uris()[0]).metadata) == {b"speechmill.codec"}


@given(st.integers(0, 5), st.integers(1, 4))
def test_latents_come_back_as_halves(frames: int, channels: int) -> None:
    values_TD = np.random.default_rng(frames).normal(size=(frames, channels)).astype(np.float32)
    packed = pack_latents(values_TD)
    assert len(packed) == 2 * frames * channels
    np.testing.assert_array_equal(unpack_latents(packed, channels), values_TD.astype(np.float16))


def test_latents_that_halves_cannot_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="beyond 65504"):
        pack_latents(np.full((1, 1), 1e6, np.float32))
    with pytest.raises(ValueError, match="6 bytes of latents are no whole frames of 2 channels"):
        unpack_latents(b"123456", 2)
