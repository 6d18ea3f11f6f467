"""Runs that write to a dataset, and the files that nobody will commit: of runs known to be dead, or a day old.

A running job keeps `_runs/<run id>.json` in the dataset (names with an underscore are invisible to Delta readers). It
says on which machine and as which process the job runs; only that machine can tell whether it still does.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from catalog.datasets import Dataset
from catalog.files import where
from catalog.log import all_changes
from catalog.shards import run_id_of
from catalog.storage import Storage
from catalog.strict_yaml import parse_yaml

ABANDONED_AFTER_S = 24 * 3600


@contextmanager
def marked_run(dataset: Dataset) -> Iterator[str]:
    """A job that writes: yields its run id; first deletes what dead runs left, at the end what this one left."""
    run_id = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}_{uuid.uuid4().hex[:8]}"
    dataset.storage.write(_marker(run_id), json.dumps(_this_process()).encode())
    try:
        delete_abandoned(dataset)
        yield run_id
    finally:
        # After a failure the marker stays: workers may still write files, which the next run must know as dead.
        _delete(dataset.storage, [path for path in _uncommitted(dataset) if run_id_of(path) == run_id])
    dataset.storage.delete(_marker(run_id))


def newest_record(dataset: Dataset) -> dict[str, Any]:
    """Record of the newest run of `prepare` in `_settings`; empty if there is none."""
    runs = sorted(dataset.storage.listing("_settings"))
    found = parse_yaml(dataset.storage.read(runs[-1]).decode(), runs[-1]) if runs else None
    return found if isinstance(found, dict) else {}


def delete_abandoned(dataset: Dataset, dry_run: bool = False) -> list[str]:
    """Delete (or only name) files of our own name pattern that no version has and that no job will commit."""
    storage = dataset.storage
    listed = storage.listing()
    # Not by this machine's clock alone, which may be ahead of the store's; that has come to the newest file.
    now = min(time.time(), max((stat.modified_s for stat in listed.values()), default=0.0))
    ages = {path: now - stat.modified_s for path, stat in listed.items()}
    markers = {path for path in ages if path.startswith("_runs/")}
    alive = {path: _is_alive(storage, path) for path in markers}
    gone = {path for path in markers if alive[path] is False or (alive[path] is None and _old(ages[path]))}
    abandoned = [
        path
        for path in _uncommitted(dataset)
        if (marker := _marker(str(run_id_of(path)))) in gone
        or (not alive.get(marker) and _old(ages.get(path, 0.0)))
    ]
    if not dry_run:
        _delete(storage, [*abandoned, *gone])
    return abandoned


def _uncommitted(dataset: Dataset) -> list[str]:
    """Files of ours that no commit ever named. The files are listed before the log is read, so none is missed."""
    ours = [path for path in dataset.storage.listing() if run_id_of(path)]
    active = {shard.path for shard in Dataset.open(dataset.uri).shards()}
    unknown = [path for path in ours if path not in active]
    if not unknown:
        return []
    changes = list(all_changes(dataset.storage))
    if not changes or changes[0].version != 0:
        return []  # another program shortened the log: a file may have belonged to a version it dropped
    named = {path for change in changes for path in (*change.added, *change.removed)}
    return [path for path in unknown if path not in named]


def _is_alive(storage: Storage, marker: str) -> bool | None:
    """True if the process runs; None where this machine cannot tell, as by a damaged marker."""
    try:
        recorded = json.loads(storage.read(marker))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(recorded, dict) or any(recorded.get(key) != value for key, value in where().items()):
        return None
    pid = recorded.get("pid")
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return bool(recorded.get("process_start") == _process_start(pid))


def _this_process() -> dict[str, str | int]:
    return {**where(), "pid": os.getpid(), "process_start": _process_start(os.getpid())}


def _process_start(pid: int) -> str:
    """Clock ticks from boot to the process's start (field 22 of proc(5) stat), so that a reused pid is noticed."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _old(age_s: float) -> bool:
    return age_s > ABANDONED_AFTER_S


def _marker(run_id: str) -> str:
    return f"_runs/{run_id}.json"


def _delete(storage: Storage, paths: list[str]) -> None:
    for path in paths:
        storage.delete(path)
