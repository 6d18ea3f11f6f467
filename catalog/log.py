"""A table's transaction log: our actions, and what deltalake does not expose (our statistics, times of removal).

The format is the Delta transaction protocol: `_delta_log/<version>.json` holds the actions of one commit, one JSON
object a line; `<version>.checkpoint.parquet` holds the state after that version.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from catalog.command import JobError
from catalog.schema import Shard
from catalog.storage import Storage

if TYPE_CHECKING:
    from deltalake.transaction import AddAction, RemoveAction

_CHECKPOINT = re.compile(r"_delta_log/(\d{20})\.checkpoint(?:\.\d{10}\.\d{10})?\.parquet")
_STATS: Mapping[str, type] = {"numRecords": int, "recordings": int, "seconds": float, "sha256": str, "run_id": str,
          "codec_digest": str, "recording_keys": str, "columns": str}  # fmt: skip
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
    """The files of a version, oldest first: the newest checkpoint up to it, then the commits after.

    A checkpoint only saves reading: one that is damaged is passed over. Raises JobError where a commit cannot be read.
    """
    matches = [match for match in map(_CHECKPOINT.fullmatch, storage.listing("_delta_log")) if match]
    parts: dict[int, list[str]] = {}
    for match in matches:
        if int(match[1]) <= version:
            parts.setdefault(int(match[1]), []).append(match[0])
    for start in sorted(parts, reverse=True):
        try:
            files = _checkpoint(storage, sorted(parts[start]))
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError):
            continue
        break
    else:
        start, files = -1, {}
    for number in range(start + 1, version + 1):
        apply(files, read_change(storage, number))
    return files


def _checkpoint(storage: Storage, parts: Sequence[str]) -> dict[str, Shard]:
    files: dict[str, Shard] = {}
    for part in parts:
        for add in pq.read_table(storage.open(part), columns=["add"])["add"].to_pylist():
            if add is not None and add["path"] is not None:
                shard, _ = _shard({**add, "partitionValues": dict(add["partitionValues"] or ())})
                files[shard.path] = shard
    return files


def apply(files: dict[str, Shard], change: Change) -> None:
    """Bring the set of files from one version to the next, in place."""
    for path in change.removed:
        files.pop(path, None)
    files.update(change.added)


def read_change(storage: Storage, version: int) -> Change:
    """One commit. Raises JobError, naming the file, where it is damaged or the log no longer has it."""
    path = f"_delta_log/{version:020d}.json"
    try:
        return _change(version, storage.read(path))
    except FileNotFoundError as error:
        raise JobError(f"{storage.uri}/{path}: the log lacks this entry; restore it from a backup") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise JobError(
            f"{storage.uri}/{path}: this entry of the log is damaged ({error}), so that recordings committed with it "
            "are missing; restore it from a backup, or, if it is the newest entry, delete it and run the job again"
        ) from error


def _change(version: int, data: bytes) -> Change:
    """Raises what damaged bytes make of it; a commit without any action is no commit."""
    info: Mapping[str, Any] = {}
    change = Change(version, info)
    lines = [line for line in data.decode().split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{len(data)} bytes without an action")
    for line in lines:
        action = json.loads(line)
        if not isinstance(action, dict):
            raise ValueError(f"{line:.20} is no action")
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
    for version in _versions(storage):
        yield read_change(storage, version)


def check_entries(storage: Storage) -> None:
    """Raises JobError naming the first commit that is damaged, or that is missing between two others."""
    versions = _versions(storage)
    for version in range(versions[0], versions[-1] + 1) if versions else ():
        read_change(storage, version)


def _versions(storage: Storage) -> list[int]:
    matches = map(_COMMIT.fullmatch, storage.listing("_delta_log"))
    return sorted(int(match[1]) for match in matches if match)


def _shard(add: Mapping[str, Any]) -> tuple[Shard, bool]:
    """Files written by other programs have no statistics of ours; verify says so."""
    stats = json.loads(add.get("stats") or "{}")
    if not isinstance(stats, dict):
        raise ValueError(f"stats of {add['path']} are no object")
    for name, kind in _STATS.items():
        if not isinstance(stats.get(name, kind()), kind | int if kind is float else kind):
            raise ValueError(f"stats of {add['path']}: {name} is {stats[name]!r:.60}")
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
