"""The body of `prepare`: recordings -> committed, codec-tokenised shards. A rerun does what is left."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from threading import Thread

import pyarrow as pa

from catalog import creation
from catalog.appending import Appender
from catalog.columns import declare
from catalog.command import JobError, UsageError
from catalog.config import to_yaml
from catalog.datasets import Dataset, summary
from catalog.identity import Identity
from catalog.outward import say
from catalog.runs import marked_run
from pipelines.execution import cluster
from pipelines.execution.columns import files_to_fill, fill_columns
from pipelines.execution.commit import Tolerance, commit
from pipelines.execution.progress import Progress
from pipelines.execution.ray_stream import stream
from pipelines.prepare.known import Known
from pipelines.prepare.pending import Listing
from pipelines.prepare.record import record
from pipelines.prepare.settings import PrepareSettings
from pipelines.prepare.steps import filling_step, layout_of, steps_of
from pipelines.sources.folder import FolderSource
from pipelines.sources.open import described_tables, open_source
from pipelines.sources.reading import set_reading
from pipelines.speech.transcription import check_model
from pipelines.stages.semantic import SemanticTokens


@dataclass(frozen=True)
class RunOptions:
    """Options of one run besides the settings; none of them changes a row."""

    retry: Sequence[str] = ()
    """Reasons: recordings rejected for one of them are done again."""
    only: frozenset[bytes] | None = None
    """Keys (`catalog.recordings.recording_key`) of the only recordings to offer."""
    restart: bool = False
    """Start the dataset over; older versions stay readable."""


@dataclass(frozen=True)
class _Plan:
    """All that is known before the first recording is read."""

    listing: Listing
    identity: Identity
    appender: Appender
    known: Known


def prepare(
    source: str,
    output: str,
    settings: PrepareSettings,
    options: RunOptions | None = None,
) -> dict[str, object]:
    """Prepare every recording of `source` that the dataset at `output` does not hold.

    Returns the totals of the dataset, `new_recordings` and `wall_s`. Raises UsageError and JobError.
    """
    started, options = time.monotonic(), options or RunOptions()
    listing = _listing(source, settings, options)
    written = 0
    if creation.exists(output):
        # What is refused, or has nothing left to do, is known without Ray.
        plan = _plan(listing, output, settings, options)
        if not listing.any_new(plan.known) and not _to_fill(plan, options):
            listing.refuse_changed(plan.known)
        else:
            with cluster.session():
                written = _work(plan, settings, options)
    else:
        # Ray takes seconds to start, mostly waiting; loading the codec and looking at the source fit into that.
        with ThreadPoolExecutor(1) as pool:
            planning = pool.submit(_plan, listing, output, settings, options)
            with cluster.session():
                plan = planning.result()
                written = _work(plan, settings, options)
    return {
        **summary(Dataset.open(plan.appender.uri)),
        "wall_s": round(time.monotonic() - started, 3),
        "new_recordings": written,
    }


def _listing(source: str, settings: PrepareSettings, options: RunOptions) -> Listing:
    resources, given = settings.resources, settings.source
    set_reading(given.reading)
    opened = open_source(source)
    if isinstance(opened, FolderSource):
        opened = replace(opened, links=given.links == "follow")
    return Listing(
        opened,
        prefix=given.name,
        check=given.check,
        max_bytes=resources.max_batch_bytes,
        workers=resources.workers or os.cpu_count() or 1,
        changed=given.changed,
        duplicates=given.duplicates,
        reading=given.reading,
        only=options.only,
    )


def _plan(listing: Listing, output: str, settings: PrepareSettings, options: RunOptions) -> _Plan:
    identity = _identity(settings)
    if settings.transcribe is not None:
        check_model(settings.transcribe)
    # Before the dataset is made: a source that cannot be read leaves nothing behind.
    if listing.is_empty():
        raise UsageError(f"source {listing.source.uri!r} holds no recordings")
    place = creation.restart if options.restart else creation.create
    dataset = place(output, identity.codec, settings.of_rows, identity.columns)
    for name in sorted(identity.columns.keys() - dataset.identity.columns.keys()):
        dataset = declare(dataset, name, identity.columns[name])
    appender = Appender(dataset)
    known = Known.of(appender.committed(options.retry))
    if len(known.keys) and settings.source.check != "none":
        known = known.with_texts(appender.dataset.read(["id", "recording_id", "text", "text_source"]))
        if listing.changed == "refuse" and (corrected := listing.corrected(known)):
            say(f"{corrected} transcripts have changed since their commit; give --changed redo to take them")
    return _Plan(listing, identity, appender, known)


def _identity(settings: PrepareSettings) -> Identity:
    """Makers of codes and token columns, and the settings of rows. Torch is imported here, while Ray starts."""
    from models.codec_sources import load_codec
    from models.codecs.interface import identity_of

    codec = identity_of(load_codec(settings.codec.name))
    columns = {} if settings.semantic is None else SemanticTokens(settings.semantic).columns
    return Identity(codec, settings.of_rows, columns)


def _to_fill(plan: _Plan, options: RunOptions) -> bool:
    """True if committed files are to get token columns; a repair leaves that to `prepare`."""
    return options.only is None and bool(files_to_fill(plan.appender.dataset, plan.identity.columns))


def _work(plan: _Plan, settings: PrepareSettings, options: RunOptions) -> int:
    """Run the job; returns the number of recordings written."""
    available = cluster.nodes()
    layout = layout_of(settings, available)
    cluster.check_claims(list(layout.claims.values()), available)
    with marked_run(plan.appender.dataset) as run_id, Progress() as progress:
        record(plan.appender.dataset, plan.listing.source.uri, settings, run_id, bool(len(plan.known.keys)))
        steps = steps_of(layout, settings, plan.identity, plan.appender.uri, run_id)
        # A source of millions is still being counted while the first of it are done.
        Thread(target=_count, args=(plan, progress), daemon=True).start()
        # Closed while Ray is up: what Ray Data clears away later would start another.
        with closing(stream(partial(plan.listing.batches, plan.known), steps)) as results:
            tolerance = Tolerance(
                settings.resources.max_unavailable_in_a_row, settings.resources.max_unavailable_share
            )
            redo = settings.source.changed == "redo"
            missing = commit(plan.appender, results, progress, options.retry, redo, tolerance)
        if missing:
            progress.say(
                f"{missing} recordings were unavailable and are not stored; the next run takes them up again"
            )
        if settings.semantic is not None and _to_fill(plan, options):
            step = filling_step(layout, settings, settings.semantic, plan.identity.codec, plan.appender.uri)
            filled = fill_columns(plan.appender.uri, plan.identity.columns, step, run_id, progress.say)
            progress.say(f"{filled} files were rewritten with {', '.join(sorted(plan.identity.columns))}")
    return progress.recordings


def _count(plan: _Plan, progress: Progress) -> None:
    # What is wrong with a source is raised where it is read for the job.
    with suppress(UsageError, JobError, OSError):
        progress.total = plan.listing.count(plan.known).new_recordings


def describe(source: str, output: str, settings: PrepareSettings, options: RunOptions) -> list[str]:
    """The resolved settings, the workers of this machine and the planned work, as lines of text; starts nothing."""
    listing = _listing(source, settings, options)
    identity, lacking = _identity(settings), 0
    known = Known.of(_NOTHING)
    if creation.exists(output) and not options.restart:
        made = creation.create(output, identity.codec, settings.of_rows, identity.columns)
        lacking = len(files_to_fill(made, identity.columns))
        known = Known.of(Appender(made).committed(options.retry))
    planned = listing.count(known)
    here = [{"CPU": float(os.cpu_count() or 1), "GPU": 0.0}]
    lines = [to_yaml(settings).rstrip(), "stages:"]
    lines += [
        f"  {claim.name}: {claim.workers} workers of {claim.num_cpus:g} CPU, {claim.num_gpus:g} GPU"
        for claim in layout_of(settings, here).claims.values()
    ]
    lines += described_tables(listing.source)
    lines.append(
        f"planned: {planned.new_recordings} of {planned.recordings} recordings "
        f"({planned.on_offer}) -> {output}, codec {identity.codec.source}"
    )
    lines += [f"{name}: {made.source}" for name, made in sorted(identity.columns.items())]
    lines += [f"{lacking} files get {', '.join(sorted(identity.columns))}"] if lacking else []
    return lines


_NOTHING = pa.table({"recording_id": pa.array([], pa.string()), "source_digest": pa.array([], pa.string())})
