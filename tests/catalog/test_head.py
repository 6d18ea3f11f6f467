"""From one version of a dataset to the next: what the log tells other readers, and which jobs may go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable

from catalog.appending import Appender
from catalog.columns import declare, fill
from catalog.datasets import Dataset
from catalog.head import Head
from catalog.schema import SCHEMA, Shard
from catalog.token_columns import pack_latents
from catalog.upkeep import compact, history
from models.identity import TokenIdentity

LATENTS = TokenIdentity("encoder", "1", "11ee", 16000, 320, 0, 0, channels=1)


def actions(dataset: Dataset, kind: str) -> list[dict[str, Any]]:
    """Those of the newest version."""
    entry = Path(dataset.uri, f"_delta_log/{dataset.version:020d}.json").read_text()
    return [action[kind] for action in map(json.loads, entry.splitlines()) if kind in action]


def changed(dataset: Dataset) -> dict[str, set[bool]]:
    """`dataChange` of the newest version's actions, by their kind."""
    found = {kind: {one["dataChange"] for one in actions(dataset, kind)} for kind in ("add", "remove")}
    return {kind: said for kind, said in found.items() if said}


def test_readers_of_changes_learn_whether_rows_changed(
    appender: Appender, append: Callable[..., object]
) -> None:
    append(["a", "b"])
    assert changed(appender.dataset) == {"add": {True}}
    appender.committed()
    append(["a"], replace=True)  # the rows of b are carried into a new file, those of a are others
    assert changed(appender.dataset) == {"add": {True}, "remove": {True}}
    compact(appender.dataset)
    compacted = Dataset.open(appender.uri)
    assert changed(compacted) == {"add": {False}, "remove": {False}}
    head = Head(declare(compacted, "latents", LATENTS))
    (shard,) = head.files.values()
    lengths = head.dataset.read(SCHEMA.names)["target_length"].to_numpy()
    values = [pack_latents(lengths[at].repeat(lengths[at])[:, None]) for at in range(len(lengths))]
    assert fill(head, shard, {"latents": pa.array(values, pa.binary())}, "embed1", "embed")
    assert changed(head.dataset) == {"add": {True}, "remove": {True}}, "the rows have a further value"
    assert [one["job"] for one in history(head.dataset)][-3:] == ["compact", "declare column", "embed"]


def test_what_left_the_table_is_described_as_it_was_added(
    appender: Appender, append: Callable[..., list[Shard]]
) -> None:
    (shard,) = append(["a"], "validation")
    (added,) = actions(appender.dataset, "add")
    append(["a"], replace=True)
    (removed,) = actions(appender.dataset, "remove")
    assert {key: removed[key] for key in ("path", "size", "partitionValues")} == {
        key: added[key] for key in ("path", "size", "partitionValues")
    }
    assert added["partitionValues"] == {"split": "validation"}
    assert abs(removed["deletionTimestamp"] - added["modificationTime"]) < 60_000
    assert unquote(removed["path"]) == shard.path


def test_a_property_of_the_table_that_changes_no_row_stops_no_job(
    appender: Appender, append: Callable[..., object]
) -> None:
    append(["a"])
    DeltaTable(appender.uri).alter.set_table_properties({"delta.checkpointInterval": "20"})
    append(["b"])
    append(["c"])
    assert Dataset.open(appender.uri).totals().recordings == 3
