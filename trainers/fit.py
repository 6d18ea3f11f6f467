"""One training run: resolve the data, build the objective, train, export the best weights, register them."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from catalog.command import JobError
from catalog.config import digest, to_yaml
from trainers.checkpoint import load
from trainers.data import Batches, open_batches
from trainers.ema import load as load_averages
from trainers.loop import Hooks, Outcome, train
from trainers.objectives import DataInfo, Objective, objective_class
from trainers.settings import DataSettings, FitSettings, complete


@dataclass(frozen=True)
class Source:
    """A dataset version resolved to files: all that a worker needs to know of it."""

    files: tuple[str, ...]
    validation_files: tuple[str, ...]
    uri: str
    version: int | None
    info: DataInfo
    """Its frames_per_byte is 0 until the rows are read."""

    def identity(self) -> dict[str, Any]:
        """What a continued run must find again."""
        return {"uri": self.uri, "version": self.version, "codec": self.info.codec}


def resolve(data: DataSettings) -> Source:
    """Find the files of a dataset version in the catalog. JobError where it has no training row."""
    if data.dataset is None:
        return _given_files(data)
    from catalog.datasets import Dataset

    dataset = Dataset.open(data.dataset, data.version)
    codec = dataset.codec
    files = tuple(dataset.file_uris("train"))
    if not files:
        raise JobError(f"dataset {data.dataset} version {dataset.version} has no training rows")
    info = DataInfo(
        codec=f"{codec.name}@{codec.edition}" if codec.edition else codec.name,
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        n_codebooks=codec.n_codebooks,
        codebook_size=codec.codebook_size,
        frames_per_byte=0.0,
    )
    return Source(files, tuple(dataset.file_uris("validation")), str(data.dataset), dataset.version, info)


def _given_files(data: DataSettings) -> Source:
    from models.codecs import load_codec

    assert data.codec is not None
    codec = load_codec(data.codec)
    info = DataInfo(
        data.codec,
        codec.sample_rate,
        codec.hop_length,
        codec.n_codebooks,
        codec.codebook_size,
        frames_per_byte=0.0,
    )
    return Source(data.files, data.validation_files, ", ".join(data.files), None, info)


@dataclass(frozen=True)
class Run:
    """Everything built, nothing trained yet."""

    objective: Objective
    batches: Batches
    validation: Batches | None
    identity: Mapping[str, Any]


def build(settings: FitSettings, source: Source) -> Run:
    """Read the rows and build the objective. JobError where rows and codec disagree."""
    cache = settings.data.cache or settings.directory / "cache"
    seed, size = settings.loop.seed, source.info.codebook_size
    batches = open_batches(source.files, settings.data.batch, seed, codebook_size=size, cache=cache)
    if batches.store.n_codebooks != source.info.n_codebooks:
        raise JobError(
            f"{source.uri} holds rows of {batches.store.n_codebooks} codebooks, "
            f"but its codec {source.info.codec} has {source.info.n_codebooks}"
        )
    validation = None
    if source.validation_files:
        validation = open_batches(
            source.validation_files, settings.data.batch, seed, codebook_size=size, cache=cache
        )
    info = replace(source.info, frames_per_byte=batches.store.frames_per_byte())
    model, objective_settings = complete(settings, info)
    torch.manual_seed(seed)
    objective = objective_class(settings.family)(model, objective_settings, info)  # type: ignore[call-arg, arg-type]
    identity = {
        "family": settings.family,
        "model": asdict(model),
        "objective": asdict(objective_settings),
        "data": {**source.identity(), "rows": batches.store.digest, "batch": asdict(settings.data.batch)},
        "init": settings.init,
    }
    return Run(objective, batches, validation, json.loads(json.dumps(identity, default=str)))


def device_of(settings: FitSettings) -> torch.device:
    """`auto` is the first GPU if there is one."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise JobError(f"device {name!r} is not a torch device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise JobError(f"device is {name!r}, but torch finds no GPU here")
    return device


def train_here(settings: FitSettings, source: Source, hooks: Hooks, extra: Mapping[str, Any]) -> Outcome:
    """Train in this process (a rank, or the whole run); rank 0 writes `directory/export`."""
    run = build(settings, source)
    directory = settings.directory
    outcome = train(
        run.objective,
        run.batches,
        settings.loop,
        directory=directory / "checkpoints",
        validation=run.validation,
        hooks=hooks,
        identity=run.identity,
        extra=extra,
        device=device_of(settings),
    )
    return outcome


def export(settings: FitSettings, source: Source, outcome: Outcome) -> Path:
    """Write the best checkpoint's weights as `export/`, aside and then in one step; returns the directory."""
    run = build(settings, source)
    state = load(outcome.checkpoint)
    run.objective.load_state_dict(state["objective"])
    if state["ema"] is not None:
        load_averages(run.objective, state["ema"])
    run.objective.eval()
    final = settings.directory / "export"
    aside = settings.directory / f".export-{uuid.uuid4().hex}"
    run.objective.export(aside)
    record = {
        "family": settings.family,
        "data": asdict(run.objective.data),
        "dataset": {"uri": source.uri, "version": source.version, "rows": run.batches.store.digest},
        "step": state["step"],
        "validation_loss": state["best"],
        "config_digest": digest(dict(run.identity)),
    }
    (aside / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    if final.exists():
        final.rename(settings.directory / f".old-{uuid.uuid4().hex}")
    aside.rename(final)
    for old in settings.directory.glob(".old-*"):
        shutil.rmtree(old)
    return final


def fit(settings: FitSettings) -> dict[str, Any]:
    """Train, export, register; the mapping is the command's JSON line."""
    source = resolve(settings.data)
    settings.directory.mkdir(parents=True, exist_ok=True)
    (settings.directory / "config.yaml").write_text(to_yaml(settings), encoding="utf-8")
    outcome = train_here(settings, source, Hooks(), {})
    exported = export(settings, source, outcome)
    return {
        "family": settings.family,
        "steps": outcome.step,
        "epoch": outcome.epoch,
        "stopped": outcome.stopped,
        "loss": outcome.loss,
        "validation_loss": outcome.validation_loss,
        "checkpoint": str(outcome.checkpoint),
        "export": str(exported),
    }


def describe(settings: FitSettings) -> dict[str, Any]:
    """What a run would do, without starting it: rows, batches, parameters."""
    source = resolve(settings.data)
    run = build(settings, source)
    return {
        "family": settings.family,
        "rows": len(run.batches.store),
        "skipped": run.batches.skipped,
        "batches_per_epoch": len(run.batches.epoch(0)),
        "validation_rows": len(run.validation.store) if run.validation else 0,
        "parameters": sum(p.numel() for p in run.objective.parameters()),
        "workers": settings.workers,
        "device": str(device_of(settings)),
        "output": str(settings.directory),
    }
