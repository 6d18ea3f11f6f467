"""Listing at scale: time to the first batch, recordings a second, and memory of the process that lists.

    python -m benchmarks.bench_listing [--recordings 1000000] [--files 100000]

Cases: a NeMo manifest of a million recordings (none committed; all committed), and a folder of 100,000
files. Each runs in a process of its own, which iterates all batches and drops them; its peak memory is that of the
process less that of the same process before it opened the source.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "listing.json"


def make_manifest(path: Path, recordings: int) -> None:
    """A manifest in the manner of a large corpus; the files need not exist."""
    with path.open("w", encoding="utf-8") as file:
        for index in range(recordings):
            row = {
                "audio_filepath": f"audio/{index // 1000:04d}/utterance-{index:08d}.flac",
                "duration": 3.0 + index % 17,
                "text": f"this is what the speaker said in recording number {index}",
                "speaker": f"speaker-{index % 5000}",
                "lang": "en",
            }
            file.write(json.dumps(row) + "\n")


def make_folder(path: Path, files: int) -> None:
    """Files of one byte, a thousand in each folder."""
    for index in range(files):
        if index % 1000 == 0:
            (path / f"{index // 1000:04d}").mkdir(parents=True)
        (path / f"{index // 1000:04d}" / f"utterance-{index:08d}.flac").write_bytes(b"x")


def measure(location: str, committed: int) -> dict[str, float]:
    """Iterate all batches of `location`; `committed`: whether the first so many are done."""
    import pyarrow as pa

    from pipelines.prepare.known import Known
    from pipelines.prepare.pending import Listing
    from pipelines.sources.open import open_source

    pa.array(["x"])  # imports pandas, which every process that builds a table does
    before = peak_mib()
    started, cpu_started = time.perf_counter(), time.process_time()
    source = open_source(location)
    listing = Listing(source, check="none" if committed else "stat")
    known = Known.of(_done(committed))
    planned_s = time.perf_counter() - started
    any_new = listing.any_new(known)
    decided_s = time.perf_counter() - started
    first_s, recordings, batches = 0.0, 0, 0
    for batch in listing.batches(known):
        first_s = first_s or time.perf_counter() - started
        recordings += batch.rows.num_rows
        batches += 1
    wall_s = time.perf_counter() - started
    cpu_s = time.process_time() - cpu_started
    return {
        "any_new": any_new,
        "known_s": round(planned_s, 2),
        "any_new_s": round(decided_s, 2),
        "first_batch_s": round(first_s, 2),
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "recordings": recordings,
        "batches": batches,
        "recordings_per_cpu_s": round(max(recordings, committed) / cpu_s),
        "peak_mib": round(peak_mib()),
        "added_mib": round(peak_mib() - before),
    }


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _done(recordings: int) -> object:
    """Rows as a dataset gives them; sha256 as hex."""
    import pyarrow as pa

    schema = pa.schema([("recording_id", pa.string()), ("source_digest", pa.string())])
    parts = []
    for start in range(0, recordings, 10_000):
        part = range(start, min(recordings, start + 10_000))
        ids = [f"audio/{index // 1000:04d}/utterance-{index:08d}.flac" for index in part]
        parts.append(pa.record_batch([ids, [f"{index:064x}" for index in part]], schema=schema))
    return pa.Table.from_batches(parts, schema)


def in_a_process(location: Path, committed: int = 0) -> dict[str, float]:
    """`measure` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.bench_listing", "--measure", str(location), str(committed)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recordings", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure[0], int(arguments.measure[1]))))
        return
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        manifest, folder = Path(temporary) / "manifest.jsonl", Path(temporary) / "folder"
        make_manifest(manifest, arguments.recordings)
        make_folder(folder, arguments.files)
        rows["manifest, new"] = in_a_process(manifest)
        rows["manifest, done"] = in_a_process(manifest, arguments.recordings)
        rows["folder, new"] = in_a_process(folder)
    print(
        "| source | first batch s | any new s | all s | CPU s | recordings/CPU s | peak MiB | of it added |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        print(
            f"| {name} | {row['first_batch_s']} | {row['any_new_s']} | {row['wall_s']} | {row['cpu_s']} | "
            f"{row['recordings_per_cpu_s']:,} | {row['peak_mib']} | {row['added_mib']} |"
        )
    result = {
        "benchmark": "listing",
        "manifest_recordings": arguments.recordings,
        "folder_files": arguments.files,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
