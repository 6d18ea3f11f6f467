"""`python -m trainers fit CONFIG [--set a.b=c]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catalog.command import Command, main
from catalog.config import to_yaml


class Fit:
    """Train one generator or codec."""

    name = "fit"
    help = "train the generator or codec that a YAML file describes; a run found in its output is continued"

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """CONFIG, --set, --dry-run."""
        parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of the run")
        parser.add_argument(
            "--set",
            dest="overrides",
            action="append",
            default=[],
            metavar="a.b=c",
            help="override one setting; the value is YAML; repeatable",
        )
        parser.add_argument("--dry-run", action="store_true", help="print the resolved run, start nothing")

    def run(self, arguments: argparse.Namespace) -> Mapping[str, Any] | None:
        """Train; see `trainers.fit`."""
        from trainers.fit import describe, fit
        from trainers.settings import load_fit

        settings = load_fit(arguments.config, arguments.overrides)
        if arguments.dry_run:
            print(to_yaml(settings), end="")
            return describe(settings)
        return fit(settings)


COMMANDS: Sequence[Command] = (Fit(),)


def run(argv: Sequence[str] | None = None) -> int:
    """The command line of this package; returns the exit code."""
    return main("trainers", COMMANDS, argv)


if __name__ == "__main__":
    sys.exit(run())
