"""Recordings -> committed, codec-tokenised shards. A rerun does what is left, however the last run ended."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread
from typing import Any

import pyarrow as pa

from catalog.command import JobError, UsageError, add_config_arguments, require_absolute_under_ray_job
from catalog.config import load_config, nearest, to_yaml
from catalog.datasets import Dataset
from catalog.reasons import Reason
from catalog.runs import run as run_of
from catalog.schema import CodecIdentity
from catalog.strict_yaml import format_yaml
from pipelines.execution import cluster
from pipelines.execution.commit import commit
from pipelines.execution.progress import Progress
from pipelines.execution.ray_stream import stream
from pipelines.prepare.known import Known
from pipelines.prepare.pending import Listing
from pipelines.prepare.settings import PrepareSettings
from pipelines.prepare.steps import layout_of, steps_of
from pipelines.sources.open import KINDS, open_source
from pipelines.speech.transcription import check_model

name = "prepare"
help = "recordings -> committed, codec-tokenised shards"


@dataclass(frozen=True)
class _Asked:
    """What is asked for beside settings; none of it changes a row."""

    retry: Sequence[str] = ()
    only: frozenset[bytes] | None = None
    restart: bool = False


@dataclass(frozen=True)
class _Plan:
    """All that is known before the first recording is read."""

    listing: Listing
    codec: CodecIdentity
    dataset: Dataset
    known: Known


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="SOURCE", help=KINDS)
    parser.add_argument("output", metavar="OUTPUT", help="dataset: a folder or URI; appended to if it exists")
    parser.add_argument("--workers", type=int, help="codec workers; default: one a CPU or GPU")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--transcribe", metavar="MODEL", help="write down what has no text: transcribe.model")
    parser.add_argument("--filter", metavar="PRESET", help="reject by a preset's thresholds: filter.preset")
    parser.add_argument(
        "--changed", choices=("refuse", "redo"), help="what about recordings that changed since their commit"
    )
    parser.add_argument(
        "--retry-rejected",
        action="append",
        default=[],
        metavar="REASON",
        help="do recordings again that were rejected for this reason; repeatable",
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start the dataset over with this codec and these settings; older versions stay readable",
    )
    add_config_arguments(parser)


def run(arguments: argparse.Namespace) -> Mapping[str, Any] | None:
    """Prepare; returns the JSON line: totals of the dataset after the run, `new_recordings`, `wall_s`."""
    given = {
        "resources.workers": arguments.workers,
        "resources.device": arguments.device,
        "transcribe.model": arguments.transcribe,
        "filter.preset": arguments.filter,
        "source.changed": arguments.changed,
    }
    shortcuts = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = load_config(PrepareSettings, arguments.config, [*arguments.overrides, *shortcuts])
    require_absolute_under_ray_job(source=arguments.source, output=arguments.output)
    for reason in arguments.retry_rejected:
        if reason not in set(Reason):
            raise UsageError(f"--retry-rejected {reason}: no such reason; {nearest(reason, list(Reason))}")
    if arguments.dry_run:
        asked = _Asked(arguments.retry_rejected, None, arguments.restart)
        _describe(arguments.source, arguments.output, settings, asked)
        return None
    return prepare(
        arguments.source,
        arguments.output,
        settings,
        retry=arguments.retry_rejected,
        restart=arguments.restart,
    )


def prepare(
    source: str,
    output: str,
    settings: PrepareSettings,
    retry: Sequence[str] = (),
    only: frozenset[bytes] | None = None,
    restart: bool = False,
) -> dict[str, Any]:
    """Prepare every recording of `source` that the dataset at `output` does not hold.

    `retry` names reasons: recordings rejected for one of them are done again. `only` holds the keys (`recording_key`)
    of the only recordings to offer. `restart` starts the dataset over; older versions stay readable. Raises UsageError
    and JobError.
    """
    started, asked = time.monotonic(), _Asked(retry, only, restart)
    listing = _listing(source, settings, asked)
    written = 0
    if Dataset.check_place(output):
        # What is refused, or has nothing left to do, is known without Ray.
        plan = _plan(listing, output, settings, asked)
        if not listing.any_new(plan.known):
            listing.refuse_changed(plan.known)
        else:
            with cluster.session():
                written = _work(plan, settings, asked)
    else:
        # Ray takes seconds to start, mostly waiting; loading the codec and looking at the source fit into that.
        with ThreadPoolExecutor(1) as pool:
            planning = pool.submit(_plan, listing, output, settings, asked)
            with cluster.session():
                plan = planning.result()
                written = _work(plan, settings, asked)
    totals = plan.dataset.totals()
    return {
        "dataset": plan.dataset.uri,
        "version": plan.dataset.version,
        "recordings": totals.recordings,
        "utterances": totals.utterances,
        "rejected": totals.rejected,
        "hours": round(totals.hours, 6),
        "wall_s": round(time.monotonic() - started, 3),
        "new_recordings": written,
    }


def codec_identity(source: str) -> CodecIdentity:
    """Who the codec is, without keeping it."""
    from models.codecs import load_codec

    codec = load_codec(source)
    return CodecIdentity(**{field: getattr(codec, field) for field in CodecIdentity.__dataclass_fields__})


def _listing(source: str, settings: PrepareSettings, asked: _Asked) -> Listing:
    resources, given = settings.resources, settings.source
    return Listing(
        open_source(source),
        prefix=given.name,
        check=given.check,
        max_bytes=resources.max_batch_bytes,
        workers=resources.workers or os.cpu_count() or 1,
        changed=given.changed,
        duplicates=given.duplicates,
        only=asked.only,
    )


def _plan(listing: Listing, output: str, settings: PrepareSettings, asked: _Asked) -> _Plan:
    codec = codec_identity(settings.codec.name)
    if settings.transcribe is not None:
        check_model(settings.transcribe)
    # Before the dataset is made: a source that cannot be read leaves nothing behind.
    if listing.is_empty():
        raise UsageError(f"source {listing.source.uri!r} holds no recordings")
    place = Dataset.restart if asked.restart else Dataset.create
    dataset = place(output, codec, settings.of_rows)
    return _Plan(listing, codec, dataset, Known.of(dataset.committed(asked.retry)))


def _work(plan: _Plan, settings: PrepareSettings, asked: _Asked) -> int:
    """Run the job; returns how many recordings were written."""
    available = cluster.nodes()
    layout = layout_of(settings, available)
    cluster.check_claims(list(layout.claims.values()), available)
    with run_of(plan.dataset) as run_id, Progress() as progress:
        _record(plan, settings, run_id)
        steps = steps_of(layout, settings, plan.codec, plan.dataset.uri, run_id)
        # A source of millions is still being counted while the first of it are done.
        Thread(target=_count, args=(plan, progress), daemon=True).start()
        # Closed while Ray is up: what Ray Data clears away later would start another.
        with closing(stream(partial(plan.listing.batches, plan.known), steps)) as results:
            commit(plan.dataset, results, progress, asked.retry, replace=settings.source.changed == "redo")
    return progress.recordings


def _count(plan: _Plan, progress: Progress) -> None:
    # What is wrong with a source is raised where it is read for the job.
    with suppress(UsageError, JobError, OSError):
        progress.total = plan.listing.count(plan.known).new_recordings


def _record(plan: _Plan, settings: PrepareSettings, run_id: str) -> None:
    """What the run was asked for, for people and for `repair`."""
    asked = {"source": plan.listing.source.uri, "settings": settings.model_dump(mode="json")}
    plan.dataset.storage.write(f"_settings/{run_id}.yaml", format_yaml(asked).encode())


def _describe(source: str, output: str, settings: PrepareSettings, asked: _Asked) -> None:
    listing = _listing(source, settings, asked)
    codec = codec_identity(settings.codec.name)
    known = Known.of(_NOTHING)
    if Dataset.check_place(output) and not asked.restart:
        known = Known.of(Dataset.create(output, codec, settings.of_rows).committed(asked.retry))
    planned = listing.count(known)
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


_NOTHING = pa.table({"recording_id": pa.array([], pa.string()), "source_digest": pa.array([], pa.string())})
