"""A table's transaction log: our actions, and what deltalake does not expose (our statistics, times of removal).

The format is the Delta transaction protocol: `_delta_log/<version>.json` holds the actions of one commit, one JSON
object a line; `<version>.checkpoint.parquet` holds the state after that version.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from catalog.schema import Shard
from catalog.storage import Storage

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction

_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint(?:\.\d{10}\.\d{10})?\.parquet")
_COMMIT = re.compile(r"_delta_log/(\d{20})\.json")


@dataclass(frozen=True)
class Change:
    """The actions of one commit. `carried` are added files whose rows were in the table before."""

    version: int
    info: Mapping[str, Any]
    added: dict[str, Shard] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    """Path -> time of removal, milliseconds since the epoch."""
    carried: set[str] = field(default_factory=set)


def add_action(shard: Shard, *, carried: bool, data_change: bool) -> AddAction:
    """deltalake's action for a new file; its statistics hold Delta's `numRecords` and what only we know."""
    from deltalake.transaction import AddAction

    own = dataclasses.asdict(shard)
    for elsewhere in ("path", "split", "rows", "size_bytes", *(() if shard.columns else ("columns",))):
        del own[elsewhere]
    return AddAction(
        path=shard.path,
        size=shard.size_bytes,
        partition_values={"split": shard.split},
        modification_time=int(time.time() * 1000),
        data_change=data_change,
        stats=json.dumps({"numRecords": shard.rows, **own, "carried": carried}),
    )


def remove_action(shard: Shard, *, data_change: bool) -> RemoveAction:
    """deltalake's action for a file that leaves the table; the file itself stays for older versions."""
    from deltalake.transaction import RemoveAction

    now_ms = int(time.time() * 1000)
    return RemoveAction(shard.path, data_change, now_ms, shard.size_bytes, {"split": shard.split})


def active_files(storage: Storage, version: int) -> dict[str, Shard]:
    """The files of a version, oldest first: the newest checkpoint up to it, then the commits after."""
    matches = [match for match in map(_CHECKPOINT.fullmatch, storage.listing("_delta_log")) if match]
    start = max((int(match[1]) for match in matches if int(match[1]) <= version), default=-1)
    files: dict[str, Shard] = {}
    for match in sorted((match for match in matches if int(match[1]) == start), key=lambda match: match[0]):
        for add in pq.read_table(storage.open(match[0]), columns=["add"])["add"].to_pylist():
            if add is not None and add["path"] is not None:
                shard, _ = _shard({**add, "partitionValues": dict(add["partitionValues"] or ())})
                files[shard.path] = shard
    for number in range(start + 1, version + 1):
        apply(files, read_change(storage, number))
    return files


def apply(files: dict[str, Shard], change: Change) -> None:
    """Bring the set of files from one version to the next, in place."""
    for path in change.removed:
        files.pop(path, None)
    files.update(change.added)


def read_change(storage: Storage, version: int) -> Change:
    """One commit. Raises FileNotFoundError where the log no longer has it."""
    info: Mapping[str, Any] = {}
    change = Change(version, info)
    for line in storage.read(f"_delta_log/{version:020d}.json").decode().splitlines():
        action = json.loads(line)
        if "add" in action:
            shard, carried = _shard(action["add"])
            change.added[shard.path] = shard
            if carried:
                change.carried.add(shard.path)
        elif "remove" in action:
            change.removed[unquote(action["remove"]["path"])] = action["remove"].get("deletionTimestamp") or 0
        elif "commitInfo" in action:
            info = action["commitInfo"]
    return dataclasses.replace(change, info=info)


def all_changes(storage: Storage) -> Iterator[Change]:
    """Every commit that the log still has, oldest first."""
    matches = map(_COMMIT.fullmatch, storage.listing("_delta_log"))
    for version in sorted(int(match[1]) for match in matches if match):
        yield read_change(storage, version)


def _shard(add: Mapping[str, Any]) -> tuple[Shard, bool]:
    """Files written by other programs have no statistics of ours; verify says so."""
    stats = json.loads(add.get("stats") or "{}")
    shard = Shard(
        path=unquote(add["path"]),
        split=(add.get("partitionValues") or {}).get("split", ""),
        rows=stats.get("numRecords", -1),
        size_bytes=add["size"],
        sha256=stats.get("sha256", ""),
        recordings=stats.get("recordings", 0),
        seconds=stats.get("seconds", 0.0),
        run_id=stats.get("run_id", ""),
        codec_digest=stats.get("codec_digest", ""),
        recording_keys=stats.get("recording_keys", ""),
        columns=stats.get("columns", ""),
    )
    return shard, bool(stats.get("carried", False))
