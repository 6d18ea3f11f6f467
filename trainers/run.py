"""The work of every rank of a fit: read the rows, build the objective, train, export the best weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TextIO

import torch

from catalog.command import JobError, UsageError
from catalog.config import digest, to_yaml
from catalog.files import written_aside
from catalog.outward import all_without_secrets, without_secrets
from catalog.progress import Bar
from models.building import elements_of_machine, refuse_larger
from models.checkpoints import Record, Values
from models.codecs.mill.editions import embedded_directory
from models.families import trainable
from models.identity import codes_are_samples
from models.tasks import SPEAK
from trainers.adapter import (
    DIRECTORY,
    Found,
    begin,
    check_text,
    export_adapter,
    export_merged,
    find_base,
    settings_of_base,
)
from trainers.checkpoint import PARTS, Checkpoints, load
from trainers.commands import of_process
from trainers.console import console_hooks
from trainers.data import TOO_LONG, Batches
from trainers.ema import load as load_averages
from trainers.loop import train
from trainers.loop_config import Outcome, chain
from trainers.objectives import DataInfo, Objective, objective_class
from trainers.parallel import Parallel
from trainers.parquet_rows import open_parquet
from trainers.plan import Needs
from trainers.settings import FitSettings, model_settings, objective_settings
from trainers.store import Store
from trainers.tracking import RunReference, Tracker


@dataclass(frozen=True)
class Source:
    """A dataset version resolved to files: all that a worker needs to know of it."""

    files: tuple[str, ...]
    validation_files: tuple[str, ...]
    uri: str
    version: int | None
    info: DataInfo
    """Its frames_per_byte is 0 until the rows are read."""
    files_skipped: int = 0
    """Given files that cannot be read."""
    licence: str | None = None
    """Of the recordings, as their source states it."""
    derived_files: tuple[str, ...] = ()
    """Rows that are derived from those of `files`: noisy copies, speech tasks."""


@dataclass(frozen=True)
class Run:
    """Everything built, nothing trained yet."""

    objective: Objective[Any]
    batches: Batches[Any]
    validation: Batches[Any] | None
    identity: Values
    """The settings that a continued run must share, resolved."""
    base: Found | None = None
    """What an adapter is trained on."""


def build(settings: FitSettings, source: Source) -> Run:
    """Read the rows and build the objective. JobError where rows and codec disagree."""
    family, seed = objective_class(settings.family), settings.loop.seed
    base = find_base(settings) if settings.adapter is not None else None
    if base is not None:
        settings = settings_of_base(settings, base)
    objective = objective_settings(settings, source.info)
    if base is not None:
        check_text(family, objective, source.info, base)
    needs = family.needs(objective, source.info)
    needs = replace(needs, tasks=tuple(one for one in needs.tasks if one != SPEAK or settings.data.copies))
    derived = source.derived_files if needs.tasks else ()
    rows = _read(settings, source, (*source.files, *derived), needs)
    validation_rows = _read(settings, source, source.validation_files, needs)
    assert rows is not None
    info = replace(source.info, frames_per_byte=rows.frames_per_byte())
    model = model_settings(settings, objective, info)
    collate = family.collator(objective, info)

    def batches(store: Store) -> Batches[Any]:
        return Batches(store, settings.data.batch, seed, collate, needs)

    training = batches(rows)
    try:
        refuse_larger(lambda: trainable(settings.family).module(model), elements_of_machine())
    except ValueError as error:
        raise UsageError(f"model: {error}") from error
    torch.manual_seed(seed)
    built = family(model, objective, info)  # type: ignore[call-arg, arg-type]
    identity = {
        "family": settings.family,
        "model": asdict(model),
        "objective": asdict(objective),
        "data": {
            "dataset": without_secrets(source.uri),
            "version": source.version,
            "codec": info.codec,
            "codec_sha256": info.codec_sha256,
            "rows": rows.digest,
            "batch": asdict(settings.data.batch),
            "columns": {name: info.columns[name].digest for name in needs.columns if name in info.columns},
            # Only counts above 0, so that runs from before rows were left out for these reasons continue.
            "left_out": {key: n for key, n in training.left_out.items() if n and key != TOO_LONG},
        },
        "init": settings.init,
        **({"adapter": begin(built, settings, base)} if base is not None else {}),
    }
    try:
        validation = batches(validation_rows) if validation_rows is not None else None
    except ValueError as error:
        raise JobError(f"split validation of {source.uri}: {error}") from error
    return Run(built, training, validation, json.loads(json.dumps(identity, default=str)), base)


def _read(settings: FitSettings, source: Source, files: Sequence[str], needs: Needs) -> Store | None:
    if not files:
        return None
    signed = codes_are_samples(source.info.hop_length, source.info.codebook_size)
    cache = settings.data.cache or settings.directory / "cache"
    may_be_derived = files[-1:] if source.derived_files else files if source.version is None else ()
    task = (
        ("task",) if any("task" in open_parquet(path).schema_arrow.names for path in may_be_derived) else ()
    )
    nullable = (*needs.optional, *task)
    store = Store.read(files, signed=signed, columns=needs.required, nullable=nullable, cache=cache)
    _check_codes(store, source)
    return store


def _check_codes(store: Store, source: Source) -> None:
    info = source.info
    if store.n_codebooks != info.n_codebooks:
        raise JobError(
            f"{source.uri} holds rows of {store.n_codebooks} codebooks, "
            f"but its codec {info.codec} has {info.n_codebooks}"
        )
    lowest, highest = store.code_range
    # Above 32768 codes a codebook every int16 is a code, in two's complement.
    if info.codebook_size <= 2**15 and not 0 <= lowest <= highest < info.codebook_size:
        raise JobError(
            f"{source.uri} holds codes from {lowest} to {highest}, "
            f"but its codec {info.codec} has {info.codebook_size} codes a codebook"
        )


def train_here(
    settings: FitSettings,
    source: Source,
    run: Run,
    reference: RunReference | None,
    stop_requested: Callable[[], bool] = lambda: False,
    console: TextIO | None = None,
) -> Outcome:
    """Train as this process's rank, or alone. Rank 0 reports to the console and to the MLflow run, if there is one.

    `console` stands in for standard error.
    """
    checkpoints = settings.directory / "checkpoints"
    if settings.init is not None and Checkpoints(checkpoints).latest() is None:
        from catalog.models import resolve

        embedded = embedded_directory(settings.init)
        run.objective.warm_start(embedded or resolve(settings.init, settings.tracking.uri))
    stream = console or sys.stderr
    bar = Bar(stream)
    hooks = console_hooks(bar)
    tracker = Tracker(reference) if reference is not None and Parallel.current().rank == 0 else None
    if tracker is not None:
        store = run.batches.store
        frames = int(store.lengths.sum())
        profile = {"rows": len(store), "frames": frames, "files_skipped": source.files_skipped}
        plain = all_without_secrets(settings.model_dump(mode="json"))
        tracker.log_settings(plain, without_secrets(to_yaml(settings)))
        tracker.log_dataset(without_secrets(source.uri), source.version, store.digest, profile)
        hooks = chain(hooks, tracker.hooks())
    try:
        return train(
            run.objective,
            run.batches,
            settings.loop,
            directory=checkpoints,
            validation=run.validation,
            hooks=hooks,
            identity=run.identity,
            extra={"mlflow_run_id": reference.run_id} if reference is not None else {},
            device=device_of(settings),
            stop_requested=stop_requested,
            commands=of_process(settings.directory, stream),
        )
    finally:
        bar.close()
        if tracker is not None:
            tracker.close()


def device_of(settings: FitSettings) -> torch.device:
    """`auto` is the GPU if there is one. JobError for a device that is not there."""
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise JobError(f"device is {name!r}: must be auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise JobError(f"device is {name!r}, but torch finds no GPU here")
    return device


def export(settings: FitSettings, source: Source, run: Run, outcome: Outcome) -> Record:
    """Write the best checkpoint's weights to `export/`, aside and then in one step.

    Returns what `export/training.json` records: family, data, step, validation loss, digest of the configuration.
    """
    state = load(outcome.checkpoint, required=PARTS)
    run.objective.load_state_dict(state["objective"])
    if state["ema"] is not None:
        load_averages(run.objective, state["ema"])
    run.objective.eval()
    record = {
        "family": settings.family,
        "objective": run.identity["objective"],
        "data": asdict(run.objective.data),
        "codecs": {role: identity.as_dict() for role, identity in run.objective.codecs().items()},
        "statistics": run.objective.statistics(run.batches.store),
        "dataset": {
            "uri": without_secrets(source.uri),
            "version": source.version,
            "rows": run.batches.store.digest,
            **({"licence": source.licence} if source.licence else {}),
        },
        "comparable": digest(
            {"rows": (run.validation or run.batches).store.digest, "objective": run.identity["objective"]}
        ),
        "step": state["step"],
        "validation_loss": state["best"],
        "config_digest": digest(dict(run.identity)),
        **({"adapter": run.identity["adapter"]} if run.base is not None else {}),
    }
    with written_aside(settings.directory / "export", overwrite=True) as aside:
        if run.base is None:
            run.objective.export(aside)
        else:
            export_merged(run.objective, aside)
        (aside / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
    if run.base is not None:
        with written_aside(settings.directory / DIRECTORY, overwrite=True) as aside:
            export_adapter(run.objective, settings, run.base, settings.directory / "export", aside)
    return record
