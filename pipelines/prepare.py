"""Recordings -> committed, codec-tokenised shards. A rerun does what is left, however the last run ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from catalog.command import UsageError, add_config_arguments, require_absolute_under_ray_job
from catalog.config import load_config, nearest, to_yaml
from catalog.datasets import Dataset
from catalog.reasons import Reason
from catalog.runs import run as run_of
from catalog.schema import CodecIdentity
from catalog.strict_yaml import format_yaml
from pipelines import cluster
from pipelines.job import commit
from pipelines.layout import layout_of, steps_of
from pipelines.listing import Listing, Planned
from pipelines.prepare_settings import PrepareSettings
from pipelines.progress import Progress
from pipelines.sources import open_source
from pipelines.streaming import stream

name = "prepare"
help = "recordings -> committed, codec-tokenised shards"


@dataclass(frozen=True)
class _Plan:
    """All that is known before the first recording is read."""

    listing: Listing
    codec: CodecIdentity
    dataset: Dataset
    committed: pa.Table
    planned: Planned


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="SOURCE", help="folder of recordings, or a metadata.csv")
    parser.add_argument("output", metavar="OUTPUT", help="dataset: a folder or URI; appended to if it exists")
    parser.add_argument("--workers", type=int, help="codec workers; default: one a CPU or GPU")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument(
        "--retry-rejected",
        action="append",
        default=[],
        metavar="REASON",
        help="do recordings again that were rejected for this reason; repeatable",
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Prepare; returns the JSON line: totals of the dataset after the run, `new_recordings`, `wall_s`."""
    given = {"resources.workers": arguments.workers, "resources.device": arguments.device}
    shortcuts = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = load_config(PrepareSettings, arguments.config, [*arguments.overrides, *shortcuts])
    require_absolute_under_ray_job(source=arguments.source, output=arguments.output)
    for reason in arguments.retry_rejected:
        if reason not in set(Reason):
            raise UsageError(f"--retry-rejected {reason}: no such reason; {nearest(reason, list(Reason))}")
    if arguments.dry_run:
        _describe(arguments.source, arguments.output, settings)
        return None
    return prepare(arguments.source, arguments.output, settings, arguments.retry_rejected)


def prepare(source: str, output: str, settings: PrepareSettings, retry: Sequence[str] = ()) -> dict[str, Any]:
    """Prepare every recording of `source` that the dataset at `output` does not hold.

    `retry` names reasons: recordings rejected for one of them are done again. Raises UsageError and JobError.
    """
    started = time.monotonic()
    listing = _listing(source, settings)
    if Dataset.check_place(output):
        # What is refused, or has nothing left to do, is known without Ray.
        plan = _plan(listing, output, settings, retry)
        if not plan.planned.new_recordings:
            listing.refuse_changed(plan.committed)
        else:
            with cluster.session():
                _work(plan, settings, retry)
    else:
        # Ray takes seconds to start, mostly waiting; loading the codec and looking through the source fit into that.
        with ThreadPoolExecutor(1) as pool:
            planning = pool.submit(_plan, listing, output, settings, retry)
            with cluster.session():
                plan = planning.result()
                _work(plan, settings, retry)
    totals = plan.dataset.totals()
    return {
        "dataset": plan.dataset.uri,
        "version": plan.dataset.version,
        "recordings": totals.recordings,
        "utterances": totals.utterances,
        "rejected": totals.rejected,
        "hours": round(totals.hours, 6),
        "wall_s": round(time.monotonic() - started, 3),
        "new_recordings": plan.planned.new_recordings,
    }


def codec_identity(source: str) -> CodecIdentity:
    """Who the codec is, without keeping it."""
    from models.codecs import load_codec

    codec = load_codec(source)
    return CodecIdentity(**{field: getattr(codec, field) for field in CodecIdentity.__dataclass_fields__})


def _listing(source: str, settings: PrepareSettings) -> Listing:
    resources = settings.resources
    return Listing(
        open_source(source),
        settings.source.name,
        settings.source.check,
        resources.max_batch_bytes,
        resources.workers or os.cpu_count() or 1,
    )


def _plan(listing: Listing, output: str, settings: PrepareSettings, retry: Sequence[str]) -> _Plan:
    codec = codec_identity(settings.codec.name)
    # Before the dataset is made: a source that cannot be read leaves nothing behind.
    if not listing.plan(_NOTHING).recordings:
        raise UsageError(f"source {listing.source.uri!r} holds no recordings")
    dataset = Dataset.create(output, codec, settings.of_rows)
    committed = dataset.committed(retry)
    return _Plan(listing, codec, dataset, committed, listing.plan(committed))


_NOTHING = pa.table({"recording_id": pa.array([], pa.string()), "source_digest": pa.array([], pa.string())})


def _work(plan: _Plan, settings: PrepareSettings, retry: Sequence[str]) -> None:
    available = cluster.nodes()
    layout = layout_of(settings, available)
    cluster.check_claims(list(layout.claims.values()), available)
    with run_of(plan.dataset) as run_id, Progress(plan.planned.new_recordings) as progress:
        _record(plan, settings, run_id)
        steps = steps_of(layout, settings, plan.codec, plan.dataset.uri, run_id)
        results = stream(partial(plan.listing.batches, plan.committed), steps)
        commit(plan.dataset, results, progress, retry)


def _record(plan: _Plan, settings: PrepareSettings, run_id: str) -> None:
    """What the run was asked for, for people and for `repair`."""
    asked = {"source": plan.listing.source.uri, "settings": settings.model_dump(mode="json")}
    plan.dataset.storage.write(f"_settings/{run_id}.yaml", format_yaml(asked).encode())


def _describe(source: str, output: str, settings: PrepareSettings) -> None:
    listing = _listing(source, settings)
    codec = codec_identity(settings.codec.name)
    committed = _NOTHING
    if Dataset.check_place(output):
        committed = Dataset.create(output, codec, settings.of_rows).committed()
    planned = listing.plan(committed)
    here = [{"CPU": float(os.cpu_count() or 1), "GPU": 0.0}]
    lines = [to_yaml(settings).rstrip(), "stages:"]
    lines += [
        f"  {claim.name}: {claim.workers} workers of {claim.num_cpus:g} CPU, {claim.num_gpus:g} GPU"
        for claim in layout_of(settings, here).claims.values()
    ]
    lines.append(
        f"planned: {planned.new_recordings} of {planned.recordings} recordings "
        f"({planned.size_bytes / 1e6:.1f} MB on offer) -> {output}, codec {codec.name}@{codec.edition}"
    )
    sys.stdout.write("\n".join(lines) + "\n")
