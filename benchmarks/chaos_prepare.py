"""`prepare` under attack: killed at random points, out of disk, fed with damaged files; every row accounted for.

Each scenario compares what should be there with what is, row by row and codes byte by byte, and prints a line; the
last line is JSON. Needs Linux; the full disk needs the right to mount a small tmpfs.

    python benchmarks/chaos_prepare.py [--only kill,workers] [--kills 20] [--mutations 5000] [--recordings FOLDER ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).parent)]

from chaos_bench import Bench, Outcome  # noqa: E402 - found through the line above
from chaos_files import awkward, decoder, mutations  # noqa: E402
from chaos_kills import kill, node, spread, two_jobs, workers  # noqa: E402
from chaos_self_check import self_check  # noqa: E402
from chaos_storage import clock, ray_dies, source, storage  # noqa: E402
from chaos_tables import changed, damage, disk  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "chaos.json"

SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "kill": kill,
    "workers": workers,
    "node": node,
    "decoder": decoder,
    "mutations": mutations,
    "awkward": awkward,
    "disk": disk,
    "damage": damage,
    "changed": changed,
    "two_jobs": two_jobs,
    "spread": spread,
    "source": source,
    "storage": storage,
    "ray_dies": ray_dies,
    "clock": clock,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"scenarios, separated by commas: {', '.join(SCENARIOS)}")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--mutations", type=int, default=5000)
    parser.add_argument(
        "--size", type=int, default=300, help="recordings of a job that is attacked while it runs"
    )
    parser.add_argument(
        "--small", type=int, default=30, help="recordings of a job that only has to be complete"
    )
    parser.add_argument("--codec", default="mill-16khz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--recordings",
        type=Path,
        nargs="*",
        default=[],
        help="folders of recordings to damage and to prepare",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="results by scenario; others in it stay")
    given = parser.parse_args()
    given.names = (given.only or ",".join(SCENARIOS)).split(",")
    unknown = [name for name in given.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"--only {unknown[0]}: no such scenario; there are {', '.join(SCENARIOS)}")
    return given


def main() -> int:
    given = arguments()
    results = json.loads(given.output.read_text()) if given.output.exists() else {}
    failed = []
    with tempfile.TemporaryDirectory(prefix="chaos") as scratch, ExitStack() as stack:
        bench = Bench(Path(scratch), given, stack)
        self_check(bench.corpus(6))
        for name in given.names:
            started = time.monotonic()
            outcome = SCENARIOS[name](bench)
            results[name] = asdict(outcome) | {"seconds": round(time.monotonic() - started, 1)}
            failed += [] if outcome.ok else [name]
            print(f"{name:10} {'ok    ' if outcome.ok else 'FAILED'} expected: {outcome.expected}")
            print(f"{'':17} found:    {outcome.found}", flush=True)
            given.output.parent.mkdir(parents=True, exist_ok=True)
            given.output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps({"ok": len(given.names) - len(failed), "failed": failed}))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
