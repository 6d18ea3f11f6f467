"""Files get their token columns one by one, here without Ray: the stages run in this process."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from catalog.appending import Appender
from catalog.columns import declare
from catalog.command import JobError
from catalog.creation import create
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.schema import SCHEMA
from catalog.shards import write_shard
from catalog.upkeep import history, verify
from models.identity import TokenIdentity
from pipelines.execution import columns
from pipelines.execution.cluster import Claim
from pipelines.execution.columns import files_to_fill, fill_columns
from pipelines.execution.ray_stream import RecordingBatch, Stage, Step

CODEC = TokenIdentity("toy", "1", "00ff", 16000, 320, 1, 1024)
TOKENS = TokenIdentity("semantic", "2", "22ee", 16000, 320, 1, 50)
LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=1)
MAKERS = {"semantic_codes": TOKENS, "latents": LATENTS}


def stream(
    batches: Callable[[], Iterator[RecordingBatch]], steps: Sequence[Step]
) -> Iterator[tuple[int, str, pa.Table]]:
    """In place of Ray."""
    stages = [stage.factory(**stage.arguments) for step in steps for stage in step.stages]
    for batch in batches():
        table = batch.rows
        for stage in stages:
            table = stage(table)
        yield batch.index, batch.key, table


class Maker:
    """One token and one latent a frame for every file, but for those of recordings named `bad`."""

    def __init__(self, uri: str, after: Callable[[str], None] | None = None) -> None:
        self.uri, self.after = uri, after
        self.seen: list[str] = []
        self.started = 0

    def __call__(self, table: pa.Table) -> pa.Table:
        (described,) = table["shard"].to_pylist()
        path = json.loads(described)["path"]
        (shard,) = (one for one in Dataset.open(self.uri).files if one.path == path)
        dataset = Dataset.open(self.uri)
        rows = dataclasses.replace(dataset, files=(shard,)).read(["recording_id", "target_length"])
        self.seen.append(path)
        if self.after is not None:
            self.after(path)
        frames = rows["target_length"].to_pylist()
        bad = any(name.startswith("bad") for name in rows["recording_id"].to_pylist())
        return pa.table(
            {
                "semantic_codes": pa.array([[7] * length for length in frames], pa.list_(pa.int32())),
                "latents": pa.array([bytes(2 * length) for length in frames], pa.binary()),
                "problem": pa.array(["it changed" if bad else None] * len(frames), pa.string()),
            }
        )


def step_of(maker: Maker) -> Step:
    def factory() -> Maker:
        maker.started += 1
        return maker

    return Step(Claim("any", 1, 1.0), [Stage(factory, {})])


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(columns, "stream", stream)
    return create(tmp_path / "data", CODEC, {}).uri


def add(uri: str, *names: str, replace: bool = False) -> None:
    """A file a recording."""
    appender = Appender.open(uri)
    appender.committed()
    for name in names:
        rows = {
            "id": [name],
            "recording_id": [name],
            "codes": [[[1, 2]]],
            "target_length": [2],
            "split": ["train"],
        }
        appender.append(write_shard(pa.table(rows), uri, "r", CODEC), replace=replace)


def declared(uri: str) -> Dataset:
    for name, maker in MAKERS.items():
        declare(Dataset.open(uri), name, maker)
    return Dataset.open(uri)


def filled(uri: str) -> dict[str, tuple[list[int] | None, bytes | None]]:
    rows = Dataset.open(uri).read(["id", *MAKERS]).to_pylist()
    return {row["id"]: (row["semantic_codes"], row["latents"]) for row in rows}


def refuse(line: str) -> None:
    raise AssertionError(line)


def test_every_file_gets_its_columns_once(uri: str) -> None:
    add(uri, "a", "b", "c")
    dataset = declared(uri)
    todo = files_to_fill(dataset, MAKERS)
    assert [one.path for one in todo] == sorted(one.path for one in dataset.files)
    maker = Maker(uri)
    assert fill_columns(uri, MAKERS, step_of(maker), "run1", refuse) == 3
    assert maker.seen == [one.path for one in todo]
    assert filled(uri) == dict.fromkeys("abc", ([7, 7], bytes(4)))
    newest = Dataset.open(uri)
    assert verify(newest) == []
    assert {shard.run_id for shard in newest.files} == {"run1"}
    assert [one["job"] for one in history(newest)[dataset.version + 1 :]] == ["prepare"] * 3, (
        "a commit a file"
    )
    assert files_to_fill(newest, MAKERS) == []
    assert fill_columns(uri, MAKERS, step_of(maker), "run2", refuse) == 0


def test_columns_that_a_file_has_already_are_kept(uri: str) -> None:
    add(uri, "a")
    declare(Dataset.open(uri), "latents", LATENTS)
    head = Head(Dataset.open(uri))
    (shard,) = head.files.values()
    values = pa.array([b"\0\x3c\0\x3c"], SCHEMA.field("latents").type)
    assert columns.fill(head, shard, {"latents": values}, "earlier", "embed")
    declared(uri)
    assert fill_columns(uri, MAKERS, step_of(Maker(uri)), "run1", refuse) == 1
    assert filled(uri) == {"a": ([7, 7], b"\0\x3c\0\x3c")}


def test_files_that_cannot_be_made_are_told_when_all_others_are_done(uri: str) -> None:
    add(uri, *(f"bad{index}" for index in range(7)), "good")
    declared(uri)
    said: list[str] = []
    maker = Maker(uri)
    with pytest.raises(
        JobError,
        match=rf"^{uri}: 7 files still lack token columns, .* were: it changed; the same command takes them up again$",
    ):
        fill_columns(uri, MAKERS, step_of(maker), "run1", said.append)
    assert (len(maker.seen), maker.started) == (8, 1), "each once, by workers that start once"
    assert len(said) == 5
    assert all(line.endswith("keeps no token columns: it changed") for line in said)
    assert {name: one is not None for name, (one, _) in filled(uri).items()} == {
        "good": True,
        **{f"bad{index}": False for index in range(7)},
    }


def test_a_file_that_another_job_rewrites_meanwhile_is_taken_again(uri: str) -> None:
    """The copy that it put in the file's place is filled in the next round."""
    add(uri, "a", "b")
    declared(uri)
    first = files_to_fill(Dataset.open(uri), MAKERS)[0]

    def beside(path: str) -> None:
        head = Head(Dataset.open(uri))
        if path == first.path:
            assert columns.fill(head, first, {}, "other", "compact")

    maker = Maker(uri, beside)
    assert fill_columns(uri, MAKERS, step_of(maker), "run1", refuse) == 2
    assert len(maker.seen) == 3
    assert filled(uri) == dict.fromkeys("ab", ([7, 7], bytes(4)))
    assert verify(Dataset.open(uri)) == []
