"""Ray for one job: attach to the cluster that is there or start one here, and check that the job fits."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from catalog.command import JobError

if TYPE_CHECKING:
    from ray.job_config import JobConfig

_STARTS = 3


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
    import ray.data

    # What fails is raised, too, and said in one line by the command's boundary.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    if ray.is_initialized():
        yield
        return
    # Ray prints to standard error whenever it starts, retries or scales; a job says what matters itself.
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    local = os.environ.get("RAY_ADDRESS", "local") == "local"
    if local:
        # Nobody looks at the metrics of a Ray that ends with the job, and gathering them takes 1 % of two cores.
        os.environ.setdefault("RAY_enable_metrics_collection", "0")
        os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
    start({"include_dashboard": False} if local else {})
    try:
        yield
    finally:
        ray.shutdown()


def start(options: Mapping[str, object]) -> None:
    """`ray.init`, quietly. On a busy machine Ray's agents miss its fixed 30 s; a second try finds them in the cache."""
    import ray

    for left in reversed(range(_STARTS)):
        try:
            with _silent_stderr():
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=_working_directory_is_data(),
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


def _working_directory_is_data() -> JobConfig:
    """The configuration of a job whose workers import our packages from where they lie, and nothing from where it runs.

    A `numpy.py` among somebody's recordings would be run otherwise: Ray 2.60 puts the driver's working directory on its
    workers' import path unless a job brings a directory of its own, and interpreters do so that it starts with `-c` and
    `-m`. The driver does not move elsewhere for that: another thread may be resolving a relative path.
    """
    from ray.job_config import JobConfig

    class OwnPackagesOnly(JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:
            return True

    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
    return OwnPackagesOnly(_py_driver_sys_path=[root])


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
