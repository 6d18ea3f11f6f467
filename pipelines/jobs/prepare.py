"""Recordings -> committed, codec-tokenised shards. A rerun does what is left, however the last run ended."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from catalog.command import UsageError, add_config_arguments, require_absolute_under_ray_job
from catalog.config import load_config, nearest
from catalog.filters import REASONS
from catalog.outward import printable
from pipelines.prepare.job import RunOptions, describe, prepare
from pipelines.prepare.settings import PrepareSettings
from pipelines.sources.open import KINDS

name = "prepare"
help = "recordings -> committed, codec-tokenised shards"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the job's arguments."""
    parser.add_argument("source", metavar="SOURCE", help=KINDS)
    parser.add_argument("output", metavar="OUTPUT", help="dataset: a folder or URI; appended to if it exists")
    parser.add_argument("--workers", type=int, help="codec workers; default: one a CPU or GPU")
    parser.add_argument("--codec", metavar="NAME", help="NAME[@EDITION][:LEVELS] or a directory: codec.name")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="of the codec: resources.device")
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


def run(arguments: argparse.Namespace) -> Mapping[str, object] | None:
    """Prepare; returns the JSON line: totals of the dataset after the run, `new_recordings`, `wall_s`."""
    given = {
        "resources.workers": arguments.workers,
        "resources.device": arguments.device,
        "codec.name": arguments.codec,
        "transcribe.model": arguments.transcribe,
        "filter.preset": arguments.filter,
        "source.changed": arguments.changed,
    }
    shortcuts = [f"{key}={value}" for key, value in given.items() if value is not None]
    settings = load_config(PrepareSettings, arguments.config, [*arguments.overrides, *shortcuts])
    require_absolute_under_ray_job(source=arguments.source, output=arguments.output)
    for reason in arguments.retry_rejected:
        if reason not in REASONS:
            raise UsageError(f"--retry-rejected {reason}: no such reason; {nearest(reason, list(REASONS))}")
    options = RunOptions(retry=arguments.retry_rejected, restart=arguments.restart)
    if arguments.dry_run:
        lines = describe(arguments.source, arguments.output, settings, options)
        sys.stdout.write("".join(f"{printable(line)}\n" for text in lines for line in text.split("\n")))
        return None
    return prepare(arguments.source, arguments.output, settings, options)
