"""Jobs that are started to be killed, the processes that belong to them, and what is left in their datasets."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
MARK = "SPEECHMILL_CHAOS"
"""This variable, with a value of its own for each job, is in the environment of every process of the job."""
ENVIRONMENT = {
    "PYTHONPATH": str(REPOSITORY),
    "OMP_NUM_THREADS": "1",
    # Ray makes its workers nicer by 15, which on a machine that is busy with other work starves them.
    "RAY_worker_niceness": "0",
}
_STARTS = 10
Rows = dict[str, str]
"""id -> digest of the row."""


@dataclass(frozen=True)
class Ended:
    """The end of a job."""

    code: int
    result: Mapping[str, Any]
    """Its JSON line."""
    said: str
    """Standard error."""
    wall_s: float
    output: str = ""


class Job:
    """A command of `pipelines` in processes of its own, Ray included, or attached to the Ray at `address`."""

    _count = 0

    def __init__(
        self,
        scratch: Path,
        words: Sequence[str],
        *,
        address: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        Job._count += 1
        self.mark = f"{os.getpid()}-{Job._count}"
        self._temp = Path(f"/tmp/chaos-{self.mark}")  # short: Ray's sockets are in there
        self._output, self._errors = (scratch / f"job{Job._count}.{name}" for name in ("out", "err"))
        plain = os.environ | {
            MARK: self.mark,
            "HOME": str(scratch),
            "RAY_TMPDIR": str(self._temp),
        }
        plain |= ENVIRONMENT
        plain.pop("RAY_ADDRESS", None)
        self._temp.mkdir()
        self.started = time.monotonic()
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines", *words],
                env=plain | ({"RAY_ADDRESS": address} if address else {}) | dict(environment or {}),
                cwd=scratch,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    def finish(self, timeout_s: float = 1800.0) -> Ended:
        """Wait for its end."""
        code = self.process.wait(timeout_s)
        wall_s = time.monotonic() - self.started
        self.kill()  # a Ray of its own may need a moment longer
        output = self._output.read_text()
        result = {} if code else json.loads(output.splitlines()[-1])
        return Ended(code, result, self._errors.read_text(), wall_s, output)

    def kill(self) -> int:
        """SIGKILL to every process of the job, as often as it takes; returns how many there were."""
        killed = kill_all(self.mark)
        self.process.wait()
        shutil.rmtree(self._temp, ignore_errors=True)
        return killed

    def wait_for_commit(self, dataset: Path, version: int = 1) -> bool:
        """Wait until the dataset has a version; False when the job ended before."""
        entry = dataset / "_delta_log" / f"{version:020d}.json"
        while not entry.exists():
            if self.process.poll() is not None:
                return entry.exists()
            time.sleep(0.02)
        return True


def kill_all(mark: str) -> int:
    """SIGKILL to every process with the mark in its environment, until there is none; returns how many there were."""
    seen: set[int] = set()
    while found := processes(mark):
        for pid in found:
            seen.add(pid)
            _signal(pid)
        time.sleep(0.02)
    return len(seen)


def processes(mark: str) -> list[int]:
    """Live processes with the mark in their environment, this one left out."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has just ended
                continue
    return found


def workers(mark: str) -> list[int]:
    """The job's worker processes: the parents of its decoders."""
    found = []
    for pid in processes(mark):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"pipelines.audio.decoder_process" in words:
                found.append(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]))
        except OSError:
            continue
    return [pid for pid in found if pid > 1]


def _signal(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@dataclass(frozen=True)
class Cluster:
    """A Ray that is up."""

    address: str
    raylets: list[int]
    """Process ids, the head's first."""


@contextmanager
def cluster(scratch: Path, *cpus: int) -> Iterator[Cluster]:
    """A Ray cluster on this machine with a node (a raylet) for each number of CPUs."""
    mark = f"{os.getpid()}-cluster-of-{len(cpus)}"
    temp = Path(f"/tmp/chaos-{os.getpid()}-nodes{len(cpus)}")
    (temp / "ray").mkdir(parents=True)
    # Elsewhere Ray would write down this cluster as the one that any ray.init() of this machine attaches to.
    own = ENVIRONMENT | {MARK: mark, "HOME": str(scratch), "RAY_TMPDIR": str(temp)}
    words = [sys.executable, str(Path(__file__).with_name("chaos_cluster.py")), str(temp), *map(str, cpus)]
    try:
        for _ in range(_STARTS):
            host = subprocess.Popen(
                words, env=os.environ | own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            told = _first_json(host)
            if told:
                break
            kill_all(mark)
        else:
            raise RuntimeError(f"Ray did not start in {_STARTS} attempts; is the machine very busy?")
        yield Cluster(**json.loads(told[0]))
    finally:
        kill_all(mark)
        shutil.rmtree(temp, ignore_errors=True)


def _first_json(host: subprocess.Popen[str]) -> list[str]:
    """The first line that is JSON; none when the process ends without one."""
    for line in host.stdout or []:
        if line.startswith("{"):
            return [line]
    return []


@dataclass(frozen=True)
class Difference:
    """Rows of a dataset compared with the expected ones."""

    rows: int
    missing: int
    extra: int
    twice: int
    different: int

    @property
    def is_exact(self) -> bool:
        """Every row once, as it should be."""
        return not (self.missing or self.extra or self.twice or self.different)

    @property
    def is_partial(self) -> bool:
        """Nothing but what should be there, as it should be; some may be missing."""
        return not (self.extra or self.twice or self.different)

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.missing} missing, {self.extra} extra, {self.twice} twice, "
            f"{self.different} different"
        )


def rows_of(dataset: Path) -> tuple[Rows, int]:
    """Every row of the newest version by its id, and how many ids are there more than once."""
    import pyarrow.parquet as pq

    from catalog.datasets import Dataset

    found: Rows = {}
    counts: Counter[str] = Counter()
    for uri in Dataset.open(dataset).file_uris():
        table = pq.ParquetFile(uri).read()
        codes = table["codes"].combine_chunks()
        for row, plain in enumerate(table.drop_columns(["codes"]).to_pylist()):
            digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
            if codes[row].is_valid:
                values = codes[row].values
                digest.update(f"{len(values)} ".encode() + values.flatten().to_numpy().tobytes())
            found[plain["id"]] = digest.hexdigest()
            counts[plain["id"]] += 1
    return found, sum(count > 1 for count in counts.values())


def compare(dataset: Path, expected: Rows) -> Difference:
    """The newest version against the rows that it should have; codes are compared byte for byte."""
    if not list(dataset.glob("_delta_log/*.json")):
        return Difference(0, len(expected), 0, 0, 0)
    found, twice = rows_of(dataset)
    return Difference(
        rows=len(found),
        missing=len(expected.keys() - found.keys()),
        extra=len(found.keys() - expected.keys()),
        twice=twice,
        different=sum(found[name] != expected[name] for name in found.keys() & expected.keys()),
    )


def is_sound(dataset: Path) -> bool:
    """True if `verify` finds nothing and every Parquet file belongs to the table."""
    from catalog.datasets import Dataset
    from catalog.upkeep import verify

    opened = Dataset.open(dataset)
    return not verify(opened) and set(map(str, dataset.rglob("*.parquet"))) == set(opened.file_uris())
