"""One training run: resolve the data, train here or on workers, export the best weights, register them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from catalog.command import JobError, UsageError, require_absolute_under_ray_job
from catalog.config import to_yaml
from catalog.files import clear_asides, write_text
from catalog.models import describe as describe_model
from catalog.models import promote, register, tracking_uri
from catalog.outward import say, without_secrets
from catalog.runs import newest_record
from catalog.tracking_store import sqlite_file, sqlite_uri
from models.checkpoints import Record, Values
from models.codecs.interface import Codec
from models.identity import TokenIdentity
from trainers.adapter import DIRECTORY, exact_base
from trainers.checkpoint import Checkpoints, check_identity
from trainers.commands import forget
from trainers.objectives import DataInfo, objective_class
from trainers.parquet_rows import open_parquet, unreadable
from trainers.run import Run, Source, build, device_of, export, train_here
from trainers.settings import DataSettings, FitSettings
from trainers.tracking import RunReference, close_run, open_run

if TYPE_CHECKING:
    from catalog.datasets import Dataset

BEST = "best"
"""Alias of the registered version with the lowest validation loss."""


def fit(settings: FitSettings) -> Record:
    """Train, export, register; the mapping is the command's JSON line. JobError if the run directory is in use."""
    settings = absolute(settings)
    refuse_inside(settings)
    settings, source, saved = _plan(settings)
    settings.directory.mkdir(parents=True, exist_ok=True)
    with (settings.directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JobError(f"{settings.directory}: another training is running there") from error
        forget(settings.directory)
        clear_asides(settings.directory)
        for line in Checkpoints(settings.directory / "checkpoints").clean():
            say(line)
        return _fit(settings, source, saved)


def refuse_inside(settings: FitSettings) -> None:
    """UsageError for a run directory among the files of the dataset."""
    dataset = settings.data.dataset
    if dataset is not None and "://" not in dataset:
        folder = Path(dataset).resolve()
        if settings.directory.resolve().is_relative_to(folder):
            raise UsageError(
                f"output {settings.directory} is inside the dataset {folder}; give another place"
            )


def _plan(settings: FitSettings) -> tuple[FitSettings, Source, Values]:
    """The settings, the data, and the newest checkpoint, empty for a new run."""
    found = Checkpoints(settings.directory / "checkpoints").newest_good()
    saved = found[1] if found else {}
    if settings.adapter is not None:
        before = saved["identity"].get("adapter", {}).get("base") if saved else None
        adapter = exact_base(settings.adapter, tracking_uri(settings.tracking.uri), before)
        settings = settings.model_copy(update={"adapter": adapter})
    if saved:
        settings = _continued(settings, saved["identity"])
    return settings, resolve(settings.data), saved


def _fit(settings: FitSettings, source: Source, saved: Values) -> Record:
    run = build(settings, source)
    _check(settings, run, saved)
    reference = _open_run(settings, saved)
    status = "FAILED"
    try:
        write_text(settings.directory / "config.yaml", without_secrets(to_yaml(settings)))
        result = _train(settings, source, run, reference)
        status = "KILLED" if result["stopped"] == "interrupted" else "FINISHED"
        return result
    finally:
        if reference is not None:
            close_run(reference, status)


def _check(settings: FitSettings, run: Run, saved: Values) -> None:
    """Refuse what cannot be trained before anything of a finished run is touched."""
    if not settings.workers:
        device_of(settings)
    if saved:
        latest = Checkpoints(settings.directory / "checkpoints").latest()
        assert latest is not None
        wanted = {"loop": settings.loop.identity(), **run.identity}
        check_identity(latest, saved["identity"], wanted, run.objective.legacy)


def _train(settings: FitSettings, source: Source, run: Run, reference: RunReference | None) -> Record:
    if settings.workers:
        from trainers.ray_backend import train_on_workers

        outcome = train_on_workers(settings, source, reference)
    else:
        outcome = train_here(settings, source, run, reference)
    result = {
        "family": settings.family,
        "run_id": reference.run_id if reference else None,
        "steps": outcome.step,
        "epoch": outcome.epoch,
        "stopped": outcome.stopped,
        "loss": outcome.loss,
        "validation_loss": outcome.validation_loss,
        "checkpoint": str(outcome.checkpoint),
        "files_skipped": source.files_skipped,
        **_left_out(run),
    }
    if outcome.stopped == "interrupted":
        return result
    record = export(settings, source, run, outcome)
    version = _register(settings, reference, record) if settings.register_as else None
    return {
        **result,
        "export": str(settings.directory / "export"),
        **({"adapter": str(settings.directory / DIRECTORY)} if settings.adapter is not None else {}),
        "model": settings.register_as,
        "version": version,
    }


def resolve(data: DataSettings) -> Source:
    """Find the files of a dataset version in the catalog. JobError where it has no training row."""
    if data.dataset is None:
        return _given_files(data)
    from catalog.datasets import Dataset
    from models.codec_sources import lasting_source, load_levels

    dataset = Dataset.open(data.dataset, data.version)
    codec = dataset.codec
    files = tuple(dataset.file_uris("train"))
    if not files:
        raise JobError(f"dataset {data.dataset} version {dataset.version} has no row in split train")
    if data.codec is not None:
        _check_same(data.dataset, codec, data.codec, load_levels(data.codec, codec.n_codebooks))
    name = codec.source if data.codec is None else lasting_source(data.codec, codec)
    made = dataset.identity.columns
    info = replace(_info(name, codec), text=_text_settings(dataset), columns=made)
    licence = newest_record(dataset).get("licence")
    validation_files, derived_files = (tuple(dataset.file_uris(one)) for one in ("validation", "derived"))
    version = dataset.version
    return Source(
        *(files, validation_files, data.dataset, version, info), licence=licence, derived_files=derived_files
    )


def _info(source: str, codec: TokenIdentity) -> DataInfo:
    """The figures of the codec; the text's length is not known yet."""
    return DataInfo(
        codec=source,
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        n_codebooks=codec.n_codebooks,
        codebook_size=codec.codebook_size,
        frames_per_byte=0.0,
        codec_sha256=codec.weights_sha256,
        chunk_frames=codec.chunk_frames,
        chunk_stride=codec.chunk_stride,
    )


def _text_settings(dataset: Dataset) -> Record | None:
    """Text settings of its preparation, with versions, as its newest run recorded them."""
    settings = dataset.settings.get("text")
    if not isinstance(settings, dict):
        return None
    recorded = newest_record(dataset)
    return settings | {name: recorded[name] for name in ("espeak_ng", "spoken_forms") if name in recorded}


def _given_files(data: DataSettings) -> Source:
    from models.codec_sources import lasting_source, load_codec

    assert data.codec is not None
    codec = load_codec(data.codec)
    files, skipped = _readable(data.files)
    validation_files, unheard = _readable(data.validation_files)
    for path in (*files, *validation_files):
        _check_maker(path, codec, data.codec)
    made = _stated_columns((*files, *validation_files))
    info = replace(_info(lasting_source(data.codec, codec.identity), codec.identity), columns=made)
    uri = ", ".join(data.files)
    return Source(files, validation_files, uri, None, info, files_skipped=skipped + unheard)


def _readable(paths: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """The files that can be read to their end, and how many cannot, each of which is reported. JobError if none can.

    Shards of a dataset are another matter: there a damaged one ends the run, since `verify` and `repair` mend it.
    """
    reasons = {path: unreadable(path) for path in paths}
    bad = {path: reason for path, reason in reasons.items() if reason is not None}
    for path, reason in bad.items():
        say(f"skipped {path}: {reason}")
    if paths and len(bad) == len(reasons):
        raise JobError(f"none of {len(bad)} files can be read; {paths[0]}: {bad[paths[0]]}")
    return tuple(path for path in paths if path not in bad), len(bad)


def _check_maker(path: str, codec: Codec, given: str) -> None:
    """JobError if a file says that another codec, or another edition of it, made its codes."""
    from catalog.identity import CODEC_PROPERTY

    said = open_parquet(path).schema_arrow.metadata or {}
    if CODEC_PROPERTY.encode() in said:
        made = TokenIdentity.from_json(said[CODEC_PROPERTY.encode()].decode())
        _check_same(path, made, given, codec)


def _check_same(place: str, made: TokenIdentity, given: str, codec: Codec) -> None:
    now = codec.identity
    if made != now:
        raise JobError(
            f"{place} holds codes of {_described(made)}, but data.codec {given} is {_described(now)}"
        )


def _described(made: TokenIdentity) -> str:
    weights = made.weights_sha256[:12] or "none"
    return f"{made.name}@{made.edition} (weights {weights}, levels {made.n_codebooks})"


def _stated_columns(paths: Sequence[str]) -> dict[str, TokenIdentity]:
    """The makers of token columns that files name in their metadata. JobError where two files name different ones."""
    from catalog.identity import COLUMNS_PROPERTY, columns_from_json

    found: dict[str, tuple[str, TokenIdentity]] = {}
    for path in paths:
        said = open_parquet(path).schema_arrow.metadata or {}
        for name, made in columns_from_json(said.get(COLUMNS_PROPERTY.encode(), b"{}").decode()).items():
            first, known = found.setdefault(name, (path, made))
            if made != known:
                raise JobError(
                    f"{name} of {path} was made by {made.source}, that of {first} by {known.source}"
                )
    return {name: made for name, (_, made) in found.items()}


def absolute(settings: FitSettings) -> FitSettings:
    """The same settings with absolute paths: workers run in other directories."""
    data = settings.data
    uri = tracking_uri(settings.tracking.uri)
    require_absolute_under_ray_job(
        dataset=data.dataset,
        output=settings.directory,
        tracking_uri=uri if settings.tracking.enabled or settings.register_as else None,
    )

    def local(location: str) -> str:
        return location if "://" in location else str(Path(location).absolute())

    file = sqlite_file(uri)
    if file is not None and not file.is_absolute():
        uri = sqlite_uri(file)
    update: Record = {
        "files": tuple(map(local, data.files)),
        "validation_files": tuple(map(local, data.validation_files)),
        "dataset": local(data.dataset) if data.dataset else None,
    }
    return settings.model_copy(
        update={
            "output": settings.directory.absolute(),
            "data": data.model_copy(update=update),
            "tracking": settings.tracking.model_copy(update={"uri": uri}),
        }
    )


def _continued(settings: FitSettings, before: Values) -> FitSettings:
    """A continued run keeps its dataset version, though the dataset may have grown, and what its settings meant when
    it began, though settings were added since.
    """
    data, objective = settings.data, dict(settings.objective)
    if data.version is None and before["data"]["dataset"] == data.dataset:
        data = data.model_copy(update={"version": before["data"]["version"]})
    for key, value in objective_class(settings.family).legacy.items():
        section, _, name = key.rpartition(".")
        known = before["objective"].get(section, {}) if section else before["objective"]
        if name not in known and not section:
            objective = {name: value} | objective
        elif name not in known:
            objective[section] = {name: value} | objective.get(section, known)
    return settings.model_copy(update={"data": data, "objective": objective})


def _open_run(settings: FitSettings, saved: Values) -> RunReference | None:
    if not settings.tracking.enabled:
        return None
    run_id = saved["extra"].get("mlflow_run_id") if saved else None
    name = f"{settings.family}-{settings.directory.name}"
    return open_run(settings.tracking, settings.directory, name, run_id)


def _register(settings: FitSettings, reference: RunReference | None, record: Values) -> int:
    """Register `export/` once for every set of weights, and give it the alias `best` if it is."""
    name, uri = settings.register_as, tracking_uri(settings.tracking.uri)
    assert name is not None
    note = settings.directory / "registered.json"
    wanted = {
        "name": name,
        "tracking_uri": without_secrets(uri),
        "step": record["step"],
        "config": record["config_digest"],
        **({"registered": settings.adapter.registered} if settings.adapter is not None else {}),
    }
    if note.exists():
        known = json.loads(note.read_text(encoding="utf-8"))
        if {key: known.get(key) for key in wanted} == wanted:
            return int(known["version"])
    tags = {
        "family": record["family"],
        "dataset": without_secrets(record["dataset"]["uri"]),
        "dataset_version": str(record["dataset"]["version"]),
        "codec": record["data"]["codec"],
        "codec.sha256": record["data"]["codec_sha256"],
        **({"base": record["adapter"]["base"]} if "adapter" in record else {}),
        "comparable": record["comparable"],
        "validation_loss": json.dumps(record["validation_loss"]),
        "step": str(record["step"]),
    }
    run_id = reference.run_id if reference else None
    alone = settings.adapter is not None and settings.adapter.registered == "adapter"
    directory = settings.directory / (DIRECTORY if alone else "export")
    version = register(directory, name, tracking_uri=uri, run_id=run_id, tags=tags)
    if _is_best(name, uri, tags):
        promote(name, version, BEST, uri)
    write_text(note, json.dumps({**wanted, "version": version}))
    return version


def _is_best(name: str, uri: str, tags: Mapping[str, str]) -> bool:
    """Losses compare only on the same validation rows and objective; on others the newest version is the best."""
    try:
        before = describe_model(f"models:/{name}@{BEST}", uri).tags
    except JobError:
        return True
    old, new = json.loads(before.get("validation_loss", "null")), json.loads(tags["validation_loss"])
    return before.get("comparable") != tags["comparable"] or old is None or new is None or new < old


def _left_out(run: Run) -> Record:
    """Numbers of training rows that are never used, by reason."""
    reasons = {reason: count for reason, count in run.batches.left_out.items() if count}
    return {"rows_left_out": run.batches.skipped, "left_out": reasons}


def _trained(run: Run) -> Record:
    """Number of the adapter's parameters."""
    trained = [p for p in run.objective.parameters() if p.requires_grad]
    return {} if run.base is None else {"trained": sum(p.numel() for p in trained)}


def describe(settings: FitSettings) -> Record:
    """Describe a run without starting it: rows, batches, parameters."""
    source = resolve(settings.data)
    try:
        with torch.device("meta"):  # sizes are all that is asked for
            run = build(settings, source)
    except NotImplementedError:  # a constructor that computes something, as the codec's mel filters
        run = build(settings, source)
    return {
        "family": settings.family,
        "dataset": source.uri,
        "version": source.version,
        "rows": len(run.batches.store),
        "files_skipped": source.files_skipped,
        **_left_out(run),
        "batches_per_epoch": len(run.batches.epoch(0)),
        "validation_rows": len(run.validation.store) if run.validation else 0,
        "parameters": sum(p.numel() for p in run.objective.parameters()),
        **_trained(run),
        "workers": settings.workers,
        "device": settings.device if settings.workers else str(device_of(settings)),
        "output": str(settings.directory),
    }
