"""Ray for one job: attach to the cluster that is there or start one here, and check that the job fits."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from catalog.command import JobError, ends_when_told
from catalog.import_path import own_packages_only, own_token
from catalog.outward import say

_STARTS = 3
_LONGEST_FOLDER = 40
"""Bytes. Behind it come 64 of a session's sockets, and the system takes 107."""


@dataclass(frozen=True)
class Claim:
    """Workers that a job keeps for its whole life, and what each takes."""

    name: str
    workers: int
    num_cpus: float
    num_gpus: float = 0.0


@contextmanager
def session() -> Iterator[None]:
    """Attach to a running Ray (RAY_ADDRESS, `ray job submit`, this process's) or start one that ends with the job."""
    local = own_token()
    import ray.data

    # What fails is raised, too, and said in one line by the command's boundary.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    # Ray prints to standard error whenever it starts, retries or scales; a job says what matters itself.
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    if local:
        # Nobody looks at the metrics of a Ray that ends with the job, and gathering them takes 1 % of two cores.
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    with _short_folder() as folder:
        start({"include_dashboard": False, **folder} if local else {})
        watch = _Watch()
        try:
            with ends_when_told():  # Ray's handler would write the stack of its native code instead
                yield
        finally:
            watch.stop()
            ray.shutdown()


def start(options: Mapping[str, object]) -> None:
    """`ray.init`, quietly. On a busy machine Ray's agents miss its fixed 30 s; a second try finds them in the cache."""
    import ray
    from ray.job_config import JobConfig

    for left in reversed(range(_STARTS)):
        try:
            with _silent_stderr():
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=own_packages_only(JobConfig),
                    **options,
                )
            return
        except Exception as error:
            ray.shutdown()
            if "timed out during startup" not in str(error):
                raise
            if not left:
                raise JobError(
                    f"Ray did not start in {_STARTS} tries of 30 s; is the machine very busy?"
                ) from error


@contextmanager
def _short_folder() -> Iterator[dict[str, str]]:
    """Ray's option for a folder of its own where the usual one is too long for the names of its sockets."""
    usual = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(usual)) <= _LONGEST_FOLDER:
        yield {}
        return
    try:
        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    except OSError as error:
        raise JobError(
            f"{usual}: too long for the sockets of Ray (at most {_LONGEST_FOLDER} bytes), and /tmp cannot be written: "
            f"{error.strerror}; set RAY_TMPDIR to a short folder"
        ) from error
    try:
        yield {"_temp_dir": folder}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Watch:
    """Says that a Ray of this process died, and ends the process: Ray ends it too, seconds later, without a word."""

    def __init__(self) -> None:
        import ray

        self._node = ray._private.worker._global_node
        self._done = threading.Event()
        found = self._node.all_processes if self._node is not None and self._node.head else {}
        self._watched = {
            name: found[kind][0].process
            for kind, name in (("raylet", "raylet"), ("gcs_server", "control service"))
            if found.get(kind)
        }
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """From now on Ray may end."""
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(0.5):
            dead = next((name for name, process in self._watched.items() if process.poll() is not None), None)
            if dead is not None:
                code = self._watched[dead].returncode
                how = f"signal {-code}" if code < 0 else f"exit code {code}"
                say(
                    f"speechmill: the {dead} of Ray has ended ({how}), often for want of memory; "
                    "what was committed stays, run the same command again"
                )
                with suppress(Exception):
                    self._node.kill_all_processes(check_alive=False, allow_graceful=False)
                os._exit(1)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Ray's C++ core writes past Python; what goes wrong in here is raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def nodes() -> list[dict[str, float]]:
    """CPU and GPU of every node that is alive."""
    import ray

    return [
        {kind: float(node["Resources"].get(kind, 0.0)) for kind in ("CPU", "GPU")}
        for node in ray.nodes()
        if node["Alive"]
    ]


def check_claims(claims: Sequence[Claim], available: Sequence[Mapping[str, float]]) -> None:
    """Raise JobError unless every worker finds room on some node at the same time.

    Ray would let a job that does not fit wait for ever, without a word.
    """
    free = [dict(node) for node in available]
    # Largest first: what needs a GPU or many CPUs has the fewest places to go.
    for claim in sorted(claims, key=lambda claim: (-claim.num_gpus, -claim.num_cpus)):
        for placed in range(claim.workers):
            node = next((node for node in free if _fits(claim, node)), None)
            if node is None:
                raise JobError(_refusal(claim, placed, available))
            node["CPU"] -= claim.num_cpus
            node["GPU"] -= claim.num_gpus


def _fits(claim: Claim, node: Mapping[str, float]) -> bool:
    return node["CPU"] + 1e-6 >= claim.num_cpus and node["GPU"] + 1e-6 >= claim.num_gpus


def _refusal(claim: Claim, placed: int, available: Sequence[Mapping[str, float]]) -> str:
    cluster = "; ".join(f"{node['CPU']:g} CPU and {node['GPU']:g} GPU" for node in available)
    return (
        f"the cluster holds {placed} of {claim.workers} {claim.name} workers of {claim.num_cpus:g} CPU and "
        f"{claim.num_gpus:g} GPU (its nodes: {cluster}); ask for fewer with --workers"
    )
