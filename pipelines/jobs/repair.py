"""Damaged files of a dataset: set aside, taken out of the log, and exactly their recordings prepared again.

The log remembers what was taken out (`catalog.damage`), so after a kill the same command goes on, and so does a rerun
of `prepare`: the recordings are as new ones.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from catalog import damage
from catalog.command import (
    JobError,
    UsageError,
    add_override_arguments,
    require_absolute_under_ray_job,
)
from catalog.config import load_config
from catalog.damage import Lost
from catalog.datasets import Dataset
from catalog.outward import printable, say, without_secrets
from catalog.strict_yaml import parse_yaml
from pipelines.prepare.job import RunOptions, prepare
from pipelines.prepare.settings import PrepareSettings
from pipelines.stages.semantic import SemanticSettings

name = "repair"
help = "set damaged files of a dataset aside and prepare their recordings again"


@dataclass(frozen=True)
class PreparedSource:
    """A source that earlier runs prepared, and their settings, from `_settings/<run id>.yaml`."""

    source: str
    settings: PrepareSettings
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Repaired:
    """The result of a repair: files set aside, recordings prepared again."""

    dataset: str
    version: int
    files: int
    recordings: int
    missing: list[str]
    """Ids of the recordings that no source has, `key:<hex>` where the id is lost, too."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("dataset", metavar="DATASET", help="folder or URI of the dataset")
    parser.add_argument("--source", help="where the recordings are now; default: where each run found them")
    add_override_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Repair; returns the JSON line: files set aside, recordings prepared again, recordings that are missing."""
    for word, location in (("DATASET", arguments.dataset), ("--source", arguments.source)):
        if location is not None and not location.strip():
            raise UsageError(f"{word} is empty; must be a folder or URI")
    require_absolute_under_ray_job(dataset=arguments.dataset, source=arguments.source)
    result = repair(arguments.dataset, arguments.source, arguments.overrides, arguments.dry_run)
    if result.missing and not arguments.dry_run:
        sys.stdout.write(json.dumps(asdict(result), ensure_ascii=False) + "\n")
        raise JobError(
            f"{result.dataset}: {len(result.missing)} recordings of damaged files are lost: "
            f"no source has {', '.join(result.missing[:10])}"
        )
    return asdict(result)


def repair(
    location: str, source: str | None = None, overrides: Sequence[str] = (), dry_run: bool = False
) -> Repaired:
    """Prepare the recordings of damaged files again, from `source` or from where each run found them.

    `overrides` change the recorded settings (`a.b=c`), say `resources.device=cpu`. With `dry_run` nothing is changed,
    and `recordings` are those that would be prepared. Raises UsageError and JobError.
    """
    dataset = Dataset.open(location)
    prepared = list(_prepared_sources(dataset, source, overrides))
    if source is not None:
        _refuse_source(source, prepared, dataset)
    found = damage.find(dataset)
    for path, what in found.items():
        sys.stdout.write(f"{printable(path)}: {printable(what)}\n")
    if dry_run:
        gone = [*damage.lost(dataset), *damage.describe(dataset, found)]
        wanted = damage.unfinished(dataset, damage.lost(dataset)) | _keys(damage.describe(dataset, found))
    else:
        dataset = damage.take_out(dataset, found)
        gone = damage.lost(dataset)
        damage.set_aside(dataset, gone)
        wanted = damage.unfinished(dataset, gone)
        _refuse_unknown(dataset, [one for one in gone if one.shard.path in found])
    left = wanted if dry_run else _prepare(dataset.uri, prepared, gone, wanted)
    names = {key: one for lost in gone for key, one in lost.names.items()}
    return Repaired(
        dataset=dataset.uri,
        version=Dataset.open(location).version,
        files=len(found),
        recordings=len(wanted) if dry_run else len(wanted - left),
        missing=[] if dry_run else sorted(names.get(key, f"key:{key.hex()}") for key in left),
    )


def _prepare(
    uri: str, prepared: Sequence[PreparedSource], gone: Sequence[Lost], wanted: frozenset[bytes]
) -> frozenset[bytes]:
    """Prepare the wanted recordings, each from its own run's source where that is known; returns what is left."""
    recorded = {run_id for one in prepared for run_id in one.run_ids}
    anywhere = _keys(one for one in gone if one.carried or one.shard.run_id not in recorded)
    turns = [(one, _keys(lost for lost in gone if lost.shard.run_id in one.run_ids)) for one in prepared]
    turns += [(one, anywhere) for one in prepared]
    for one, keys in turns:
        only = wanted & keys
        if only:
            _offer(uri, one, only)
            wanted = damage.unfinished(Dataset.open(uri), gone)
    return wanted


def _offer(uri: str, prepared: PreparedSource, only: frozenset[bytes]) -> None:
    try:
        prepare(prepared.source, uri, prepared.settings, RunOptions(only=only))
    except UsageError as error:  # a source that is gone: another may have its recordings
        sys.stdout.write(printable(without_secrets(f"{prepared.source}: {error}")) + "\n")


def _prepared_sources(
    dataset: Dataset, source: str | None, overrides: Sequence[str]
) -> Iterator[PreparedSource]:
    """One for each source and its name in the dataset, newest first; those of another identity are left out."""
    found: dict[tuple[str, str], PreparedSource] = {}
    semantic: SemanticSettings | None = None
    for path in sorted(dataset.storage.listing("_settings"), reverse=True):
        run_id = path.removeprefix("_settings/").removesuffix(".yaml")
        try:
            recorded = parse_yaml(dataset.storage.read(path).decode(), path)
        except (UnicodeDecodeError, UsageError, RecursionError) as error:
            say(f"{dataset.uri}/{path}: cannot be read ({error}); its run's settings are left out")
            continue
        if not isinstance(recorded, dict) or not isinstance(recorded.get("settings"), dict):
            continue  # another program's, or of a version that did not record its source
        try:
            settings = load_config(PrepareSettings, None, overrides, recorded["settings"])
        except UsageError:
            if overrides:
                raise
            continue  # settings of another version of this program
        if settings.of_rows != dataset.settings:
            continue
        # Runs before the dataset had token columns do not say who makes them; columns are never taken away again.
        semantic = semantic or (settings.semantic if dataset.identity.columns else None)
        place = source or str(recorded.get("source"))
        key = (place, settings.source.name)
        known = found.get(key)
        # Whether other recordings have changed since is no business of a repair.
        unchecked = settings.source.model_copy(update={"check": "none"})
        found[key] = PreparedSource(
            place,
            known.settings
            if known
            else settings.model_copy(update={"source": unchecked, "semantic": semantic}),
            (*(known.run_ids if known else ()), run_id),
        )
    yield from found.values()


def _refuse_source(source: str, prepared: Sequence[PreparedSource], dataset: Dataset) -> None:
    from pipelines.sources.open import open_source

    open_source(source)
    if not prepared:
        raise JobError(
            f"{dataset.uri}: no run recorded its settings (_settings/<run>.yaml); "
            "run prepare with the settings of the dataset instead"
        )


def _refuse_unknown(dataset: Dataset, gone: Sequence[Lost]) -> None:
    unknown = [one.shard.path for one in gone if not one.is_known]
    if unknown:
        raise JobError(
            f"{dataset.uri}: set {', '.join(unknown)} aside, but nothing says any more which recordings it held; "
            "run prepare with its source again: it does what is not there"
        )


def _keys(gone: Iterable[Lost]) -> frozenset[bytes]:
    return frozenset(key for one in gone for key in one.keys)
