"""Training rows at scale: seconds to open them, memory per row of the process that trains, seconds per epoch's plan.

    python -m benchmarks.bench_store [--rows 1000000 10000000] [--before CHECKOUT]

Rows are synthetic: ids of 22 bytes, texts of 60 on average, 1 codebook of 4 to 12 frames. Each case runs in a process
of its own, after its imports; memory is what /proc/self/status says less what it said before. Anonymous memory is the
process's alone; mapped pages are shared by all processes that read the same cache, and given back when memory is
short. `--before`: a checkout of a version whose store held Python lists, which reads the first number of rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = Path(__file__).parent / "results" / "store.json"
_FILE_ROWS = 500_000
_READ_BATCHES = 2000


def make_rows(folder: Path, rows: int) -> None:
    """Parquet files of rows whose ids are not in order."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    words = ["speech", "mill", "turns", "recordings", "into", "a", "generator", "of", "the", "same", "voice"]
    for first in range(0, rows, _FILE_ROWS):
        count = min(_FILE_ROWS, rows - first)
        numbers = (np.arange(first, first + count) * 7919) % rows  # a permutation: 7919 is prime
        speakers = rng.integers(0, max(1, rows // 100), count)
        drawn = rng.integers(0, len(words), (count, 11))
        frames = rng.integers(4, 13, count)
        bounds = np.append(0, np.cumsum(frames)).astype(np.int32)
        flat = pa.array(rng.integers(0, 1024, int(bounds[-1])).astype(np.int16))
        levels = pa.ListArray.from_arrays(pa.array(bounds), flat)
        codes = pa.ListArray.from_arrays(pa.array(np.arange(count + 1, dtype=np.int32)), levels)
        columns = {
            "id": [f"corpus/utt-{number:010d}" for number in numbers],
            "text": [" ".join(words[word] for word in row) for row in drawn.tolist()],
            "speaker": [f"speaker-{number}" for number in speakers],
            "codes": codes,
        }
        pq.write_table(pa.table(columns), folder / f"{first:010d}.parquet")


def rows_of(folder: str | Path) -> list[str]:
    """The files that `make_rows` wrote."""
    return [str(path) for path in sorted(Path(folder).glob("*.parquet"))]


def status() -> dict[str, int]:
    """Bytes of this process: anonymous, mapped, and the most of both together."""
    names = {"RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {names[key[:-1]]: int(value[0]) * 1024 for key, *value in lines if key[:-1] in names}


def grown(before: dict[str, int], rows: int) -> dict[str, float]:
    """Bytes a row since `before`; `resident` is anonymous and mapped."""
    found = {name: (value - before[name]) / rows for name, value in status().items()}
    found["resident"] = found["anonymous"] + found["mapped"]
    return {name: round(value, 1) for name, value in found.items()}


def measure(folder: str, cache: str, case: str) -> dict[str, Any]:
    """Open rows, plan an epoch, read some of its batches."""
    from trainers import store
    from trainers.data import Batches, CodesBatch, collate_codes
    from trainers.plan import BatchConfig, Item, Needs, Position

    if case != "memory":
        store.MEMORY_LIMIT_BYTES = 0
    needs = Needs(companions=1, companion_frames=4) if case == "companions" else Needs()
    pa.array(["x"])

    def collate(rows: store.Store, items: list[Item], position: Position) -> CodesBatch:
        for item in items:
            rows.text(item.row)
        return collate_codes(rows, items, position)

    before, started, cpu_started = status(), time.perf_counter(), time.process_time()
    where = None if case == "memory" else Path(cache)
    rows = store.Store.read(rows_of(folder), signed=False, columns=needs.required, cache=where)
    result: dict[str, Any] = {"open_s": round(time.perf_counter() - started, 3)}
    result |= {"open_cpu_s": round(time.process_time() - cpu_started, 3)}
    result |= {"rows": len(rows), "opened": grown(before, len(rows))}
    if case == "make":
        return result
    started, cpu_started = time.perf_counter(), time.process_time()
    batches = Batches(rows, BatchConfig(), 0, collate, needs)  # type: ignore[arg-type]
    batches.epoch(0)
    result |= {"plan_s": round(time.perf_counter() - started, 2), "planned": grown(before, len(rows))}
    result |= {"plan_cpu_s": round(time.process_time() - cpu_started, 2)}
    started, read = time.perf_counter(), 0
    for at in range(min(_READ_BATCHES, len(batches.epoch(0)))):
        read += len(batches.load(Position(0, at)).ids)
    result |= {"read_rows_per_s": round(read / (time.perf_counter() - started))}
    return result | {"read": grown(before, len(rows)) | {"rows": read}}


def measure_lists(folder: str) -> dict[str, Any]:
    """The same where the store held lists; runs with that version's `trainers`."""
    from trainers import data

    old: Any = data
    pa.array(["x"])
    before, started, cpu_started = status(), time.perf_counter(), time.process_time()
    batches = old.open_batches(rows_of(folder), old.BatchConfig(), 0, codebook_size=1024)
    opened_s, rows = time.perf_counter() - started, len(batches.store)
    result: dict[str, Any] = {"open_s": round(opened_s, 3), "rows": rows, "opened": grown(before, rows)}
    result |= {"open_cpu_s": round(time.process_time() - cpu_started, 3)}
    started, cpu_started = time.perf_counter(), time.process_time()
    batches.epoch(0)
    result |= {"plan_s": round(time.perf_counter() - started, 2), "planned": grown(before, rows)}
    return result | {"plan_cpu_s": round(time.process_time() - cpu_started, 2)}


def in_a_process(*arguments: str | Path, checkout: Path | None = None) -> dict[str, Any]:
    """A measurement in a fresh process, with the `trainers` of a checkout if given."""
    place = Path(__file__).resolve()
    command = [sys.executable, str(place), "--measure", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(checkout or place.parent.parent)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(rows: list[int], checkout: Path | None, work: Path) -> dict[str, Any]:
    """All cases."""
    found: dict[str, Any] = {}
    for count in rows:
        folder, cache = work / "rows", work / "cache"
        make_rows(folder, count)
        name = f"{count / 1e6:g} M"
        if checkout is not None and count == rows[0]:
            found[f"{name}, lists"] = in_a_process(folder, checkout=checkout.absolute())
        if count == rows[0]:
            found[f"{name}, in memory"] = in_a_process(folder, cache, "memory")
        found[f"{name}, made"] = in_a_process(folder, cache, "make")
        found[f"{name}, mapped"] = in_a_process(folder, cache, "mapped")
        size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        found[f"{name}, mapped"]["cache_bytes_per_row"] = round(size / count, 1)
        in_a_process(folder, cache, "companions")
        found[f"{name}, mapped, companions"] = in_a_process(folder, cache, "companions")
        for path in (folder, cache):
            shutil.rmtree(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--before", type=Path, metavar="CHECKOUT")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        chosen = measure_lists if len(arguments.measure) == 1 else measure
        print(json.dumps(chosen(*arguments.measure)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = run(arguments.rows, arguments.before, Path(temporary))
    print(
        "| rows | open s | CPU s | bytes per row | plan s | CPU s | bytes per row | anonymous | peak | rows read/s |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, row in found.items():
        last = row.get("planned", row["opened"])
        cells = [name, row["open_s"], row["open_cpu_s"], row["opened"]["resident"], row.get("plan_s", "")]
        cells += [row.get("plan_cpu_s", ""), last["resident"], last["anonymous"], last["peak"]]
        print("|", " | ".join(map(str, [*cells, row.get("read_rows_per_s", "")])), "|")
    result = {"benchmark": "store", "cases": found}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
