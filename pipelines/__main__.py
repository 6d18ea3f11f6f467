"""`python -m pipelines <job>`: the command line of the jobs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from catalog import command

JOBS = (
    *("prepare", "repair", "report", "export", "import-shards"),
    *(
        "embed",
        "fit-units",
        "synthesize",
        "convert",
        "evaluate",
        "generate-samples",
        "reconstruct",
        "codecs",
        "demo",
    ),
)


def main(argv: Sequence[str] | None = None, program: str = "speechmill") -> int:
    """Run `argv` (default: the process's own) and return the exit code; `program` is its name in messages."""
    words = sys.argv[1:] if argv is None else list(argv)
    # Only the chosen job is imported: its neighbours' libraries cost seconds.
    chosen = [job for job in JOBS if job == (words[0] if words else None)] or JOBS
    jobs = [import_module(f"pipelines.jobs.{job.replace('-', '_')}") for job in chosen]
    return command.main(program, jobs, words)


if __name__ == "__main__":
    sys.exit(main())
