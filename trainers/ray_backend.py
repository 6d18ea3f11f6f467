"""Training on Ray Train workers: one rank each, on CPUs or a GPU, restarted from the last checkpoint when one dies.

The run directory must be visible to all nodes: checkpoints, the request to stop and the outcome go through it. What
Ray Train itself stores is thrown away, because its own resume checks neither settings nor the position in the data.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import threading
import uuid
from dataclasses import asdict
from pathlib import Path

import torch

from catalog.command import JobError, UsageError
from catalog.files import write_text
from catalog.import_path import own_packages_only, own_token
from models.checkpoints import Record, Values
from trainers.interrupt import stop_on_signal
from trainers.loop_config import Outcome
from trainers.run import Source, build, train_here
from trainers.settings import FitSettings
from trainers.tracking import RunReference

_OUTCOME, _STOP, _CONSOLE = "outcome.json", "stop", "console.log"
_POLL_S = 0.5


def train_on_workers(settings: FitSettings, source: Source, run: RunReference | None) -> Outcome:
    """Train on `settings.workers` workers. All paths in `settings` and `source` must be absolute.

    JobError when the cluster lacks the resources, when a worker refuses its settings or data, and when workers died
    more than `max_failures` times. Ctrl-C and SIGTERM stop all ranks after the same update, with a checkpoint.
    """
    local = own_token()
    import ray
    from ray.job_config import JobConfig

    ours = not ray.is_initialized()
    if ours:
        options = {"include_dashboard": False} if local else {}
        job = own_packages_only(JobConfig)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, job_config=job, **options)
    attempt = uuid.uuid4().hex[:12]
    folder = settings.directory / "ray" / attempt
    folder.mkdir(parents=True)
    try:
        _check_resources(settings)
        _fit(settings, source, run, folder)
        outcome = _read_outcome(folder)
        shutil.rmtree(folder)
        return outcome
    finally:
        if ours:
            ray.shutdown()


def _fit(settings: FitSettings, source: Source, run: RunReference | None, folder: Path) -> None:
    """Run Ray's trainer in a thread: in the main thread it would take over Ctrl-C and abort without saving."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    gpu = uses_gpu(settings)
    resources = {"CPU": float(settings.worker_cpus)} | ({"GPU": 1.0} if gpu else {})
    trainer = TorchTrainer(
        _worker,
        train_loop_config={
            "settings": settings.model_dump_json(),
            "source": source,
            "run": run,
            "folder": str(folder),
        },
        scaling_config=ScalingConfig(
            num_workers=settings.workers, use_gpu=gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=FailureConfig(max_failures=settings.max_failures),
        ),
    )
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            trainer.fit()
        except Exception as error:  # noqa: BLE001 - raised again in the caller
            failure.append(error)

    console = folder / _CONSOLE
    console.touch()
    with stop_on_signal() as interrupted, console.open(encoding="utf-8") as written:
        thread = threading.Thread(target=fit, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_S)
            sys.stderr.write(written.read())
            if interrupted.is_set():
                (folder / _STOP).touch()
    if failure and not (folder / _OUTCOME).exists():
        reason = str(failure[0]).strip().splitlines()[-1]
        raise JobError(
            f"training on {settings.workers} workers failed {settings.max_failures + 1} times: {reason}"
        ) from failure[0]


def _worker(config: Values) -> None:
    """One rank. Errors that every rank meets alike are an outcome: Ray would only repeat them."""
    from ray.train import get_context
    from ray.train.torch import get_device

    device = get_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    settings = FitSettings.model_validate_json(config["settings"]).model_copy(update={"device": str(device)})
    folder = Path(config["folder"])
    rank = get_context().get_world_rank()
    torch.set_num_threads(settings.worker_cpus)
    run = config["run"] if rank == 0 else None

    def stop_requested() -> bool:
        return rank == 0 and (folder / _STOP).exists()

    try:
        with (folder / _CONSOLE).open("a", encoding="utf-8") as console:
            built = build(settings, config["source"])
            outcome = train_here(settings, config["source"], built, run, stop_requested, console)
        found: Record = {"outcome": {**asdict(outcome), "checkpoint": str(outcome.checkpoint)}}
    except (UsageError, JobError, ValueError, FloatingPointError) as error:
        found = {"error": str(error)}
    if rank == 0:
        write_text(folder / _OUTCOME, json.dumps(found))


def _read_outcome(folder: Path) -> Outcome:
    path = folder / _OUTCOME
    if not path.exists():
        raise JobError(
            f"the workers left no outcome in {folder}: is the run directory on a disk all nodes share?"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    if "error" in found:
        raise JobError(found["error"])
    values = found["outcome"]
    return Outcome(**{**values, "checkpoint": Path(values["checkpoint"])})


def uses_gpu(settings: FitSettings) -> bool:
    """True if each worker gets a GPU: requested, or there is one in the cluster."""
    import ray

    if settings.device == "auto":
        return bool(ray.cluster_resources().get("GPU", 0) >= settings.workers)
    return settings.device.startswith("cuda")


def _check_resources(settings: FitSettings) -> None:
    """Ray waits without a word for what a cluster does not have; say it instead."""
    import ray

    have = ray.cluster_resources()
    need = {"CPU": float(settings.workers * settings.worker_cpus)}
    if uses_gpu(settings):
        need["GPU"] = float(settings.workers)
    for name, count in need.items():
        if have.get(name, 0) < count:
            raise JobError(
                f"{settings.workers} workers need {count:g} {name}, the cluster has {have.get(name, 0):g}: "
                "lower workers or worker_cpus"
            )
